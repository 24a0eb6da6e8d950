"""Where each setting may come from, what a file may say that does not hold the key, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from x402_audio.errors import ConfigurationError
from x402_audio.money import Usdc
from x402_audio.settings import Settings, limit_named, load_settings

KEY = "0x" + "11" * 32
OTHER_KEY = "0x" + "22" * 32
VENICE_KEY = "venice-inference-key-0123456789"
PAYEE = "0x" + "Ab" * 20
STRANGE_API = "https://audio.example/api/v1"


@pytest.fixture(autouse=True)
def no_state_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The platform's own state folder is an empty one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))


def write(name: str, text: str, mode: int = 0o600) -> None:
    path = Path(name)
    path.write_text(text)
    path.chmod(mode)


def load(
    env: dict[str, str] | None = None,
    *,
    env_file: str | None = None,
    flags: dict[str, str] | None = None,
    sandbox: bool = False,
) -> Settings:
    """With names as they stand in the environment, the prefix left out."""
    bare = ("EVM_PRIVATE_KEY", "WALLET_KEY")
    named = {name if name in bare else f"X402_AUDIO_{name}": value for name, value in (env or {}).items()}
    return load_settings(env=named, env_file=env_file, flags=flags, sandbox=sandbox)


def amount(settings: Settings, name: str) -> str | None:
    limit = limit_named(settings.limits, name)
    return None if limit is None else limit.amount.usd


class TestDefaults:
    def test_with_nothing_set_the_built_in_values_stand(self, tmp_path: Path) -> None:
        settings = load()
        assert settings.api_url == "https://api.venice.ai/api/v1"
        assert (settings.provider, settings.billing, settings.network) == ("auto", "wallet", "base")
        assert settings.state_dir.name == "x402_audio"
        assert settings.ledger == settings.state_dir / "ledger.db"
        assert (settings.environment, settings.max_validity_s, settings.fast_poll) == ("live", 300, False)
        assert not settings.private_key
        assert settings.warnings == ()

    @pytest.mark.parametrize(
        ("name", "usd"),
        [("MAX_PER_PAYMENT", "1.00"), ("MAX_PER_JOB", "1.00"), ("MAX_PER_HOUR", "5.00"), ("MAX_PER_DAY", "5.00"),
         ("MAX_PER_MONTH", "50.00"), ("MAX_TOTAL", None), ("APPROVE_ABOVE", None), ("MAX_TOP_UP", "0.00"), ("MAX_TOP_UP_PER_DAY", "0.00")],
    )  # fmt: skip
    def test_each_limit_has_its_built_in_default(self, name: str, usd: str | None) -> None:
        settings = load()
        assert amount(settings, name) == usd
        assert settings.sources[name] == "default"

    def test_the_day_of_top_ups_follows_the_single_one(self) -> None:
        settings = load({"MAX_TOP_UP": "7"})
        assert amount(settings, "MAX_TOP_UP_PER_DAY") == "7.00"
        assert settings.max_top_up == Usdc(7_000_000)

    def test_a_top_up_flag_of_one_call_raises_the_default_of_its_day_too(self) -> None:
        limits = load().limits_with(max_top_up=Usdc(5_000_000))
        named = {name: limit_named(limits, name) for name in ("MAX_TOP_UP", "MAX_TOP_UP_PER_DAY")}
        assert [limit and limit.amount.usd for limit in named.values()] == ["5.00", "5.00"]

    def test_a_flag_of_one_call_cannot_raise_what_the_owner_wrote(self) -> None:
        limits = load({"MAX_PER_PAYMENT": "0.50"}).limits_with(max_price=Usdc(2_000_000))
        limit = limit_named(limits, "MAX_PER_PAYMENT")
        assert limit is not None and (limit.amount.usd, limit.source) == ("0.50", "environment")


class TestSources:
    def test_each_setting_says_where_it_came_from(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\nX402_AUDIO_NETWORK=base-sepolia\n")
        settings = load({"PROVIDER": "venice"}, flags={"API_URL": STRANGE_API})
        found = [
            settings.sources[name] for name in ("API_URL", "PROVIDER", "NETWORK", "PRIVATE_KEY", "LABEL")
        ]
        assert found == ["flag", "environment", "file", "file", "default"]
        assert settings.api_url_source == "flag"

    def test_the_environment_wins_over_the_file(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\nX402_AUDIO_API_URL=https://file.example\n")
        assert load({"API_URL": STRANGE_API}).api_url == STRANGE_API

    def test_a_limit_in_file_and_environment_is_the_smaller_one(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\nX402_AUDIO_MAX_PER_DAY=2\n")
        assert amount(load({"MAX_PER_DAY": "9"}), "MAX_PER_DAY") == "2.00"
        assert amount(load({"MAX_PER_DAY": "1"}), "MAX_PER_DAY") == "1.00"

    def test_a_file_of_a_parent_folder_is_never_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\n")
        write("x402-audio.toml", 'max_per_day = "0.01"\n')
        Path("below").mkdir()
        monkeypatch.chdir("below")
        settings = load()
        assert not settings.private_key
        assert amount(settings, "MAX_PER_DAY") == "5.00"

    def test_the_file_is_taken_literally_without_expanding_variables(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\nX402_AUDIO_LABEL=a\nX402_AUDIO_LEDGER=${{HOME}}/x.db\n")
        assert load().ledger.name == "x.db" and "${HOME}" in str(load().ledger)

    def test_the_sandbox_reads_no_file(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\n")
        settings = load(sandbox=True)
        assert not settings.private_key
        assert settings.environment == "sandbox"


class TestKeys:
    @pytest.mark.parametrize("name", ["EVM_PRIVATE_KEY", "WALLET_KEY"])
    def test_a_fallback_name_is_taken_and_named(self, name: str) -> None:
        settings = load({name: KEY})
        assert settings.private_key.reveal() == KEY
        assert settings.sources["PRIVATE_KEY"] == f"environment ({name})"

    def test_two_names_with_different_keys_are_refused_without_showing_them(self) -> None:
        with pytest.raises(ConfigurationError, match="EVM_PRIVATE_KEY") as refused:
            load({"PRIVATE_KEY": KEY, "EVM_PRIVATE_KEY": OTHER_KEY})
        assert refused.value.exit_code == 2
        assert "11" * 8 not in str(refused.value) and "22" * 8 not in str(refused.value)

    def test_two_names_with_one_key_are_one_key(self) -> None:
        assert load({"PRIVATE_KEY": KEY, "WALLET_KEY": KEY[2:]}).private_key.reveal() == KEY

    def test_a_different_key_in_the_file_under_another_name_is_refused(self) -> None:
        write(".env", f"WALLET_KEY={OTHER_KEY}\n")
        with pytest.raises(ConfigurationError, match="different keys"):
            load({"PRIVATE_KEY": KEY})

    def test_a_key_and_a_keystore_at_once_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="both set"):
            load({"PRIVATE_KEY": KEY, "KEYSTORE": "wallet.json"})

    def test_the_keystore_of_the_state_folder_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "keystore.json").write_text("{}")
        assert load({"STATE_DIR": str(tmp_path)}).keystore == tmp_path / "keystore.json"
        assert load({"STATE_DIR": str(tmp_path), "PRIVATE_KEY": KEY}).keystore is None

    def test_no_key_is_taken_from_a_command_line(self) -> None:
        with pytest.raises(ConfigurationError, match="never given on a command line"):
            load(flags={"PRIVATE_KEY": KEY})

    def test_settings_show_no_secret(self) -> None:
        settings = load({"PRIVATE_KEY": KEY, "VENICE_API_KEY": VENICE_KEY, "BILLING": "wallet"})
        assert KEY not in repr(settings) and VENICE_KEY not in repr(settings)

    def test_an_account_key_alone_is_billed_to_the_account(self) -> None:
        assert load({"VENICE_API_KEY": VENICE_KEY}).billing == "account"
        assert load({"VENICE_API_KEY": VENICE_KEY, "PRIVATE_KEY": KEY}).billing == "wallet"
        assert (
            load({"VENICE_API_KEY": VENICE_KEY, "PRIVATE_KEY": KEY, "BILLING": "account"}).billing
            == "account"
        )

    def test_the_account_key_belongs_to_venice_or_to_the_url_named_beside_it(self) -> None:
        beside = load({"VENICE_API_KEY": VENICE_KEY, "API_URL": STRANGE_API})
        assert beside.account_origin == "https://audio.example"
        by_flag = load({"VENICE_API_KEY": VENICE_KEY}, flags={"API_URL": STRANGE_API})
        assert by_flag.account_origin == "https://api.venice.ai"


STRANGER = (
    f"X402_AUDIO_API_URL={STRANGE_API}\nX402_AUDIO_PAYEES={PAYEE}\nX402_AUDIO_RPC_URL=https://rpc.example\n"
    "X402_AUDIO_PROVIDER=direct\nX402_AUDIO_STATE_DIR=here\nX402_AUDIO_LABEL=free\nX402_AUDIO_MAX_PER_DAY=900\n"
    "X402_AUDIO_MAX_TOP_UP=500\nX402_AUDIO_VENICE_API_KEY=theirs-theirs\nX402_AUDIO_NETWORK=base-sepolia\n"
)


class TestAStrangersFile:
    """A cloned repository must not redirect money."""

    def test_a_file_without_the_key_redirects_nothing_and_raises_nothing(self) -> None:
        write(".env", STRANGER)
        settings = load({"PRIVATE_KEY": KEY})
        plain = load({"PRIVATE_KEY": KEY}, sandbox=True)
        for name in ("api_url", "payees", "rpc_urls", "provider", "state_dir", "label", "limits", "network"):
            assert getattr(settings, name) == getattr(plain, name), name
        assert not settings.venice_api_key
        (warning,) = settings.warnings
        assert "API_URL" in warning and "MAX_PER_DAY" in warning and "--env-file .env" in warning

    def test_a_file_without_the_key_may_lower_limits(self) -> None:
        write(".env", "X402_AUDIO_MAX_PER_DAY=0.5\nX402_AUDIO_MAX_TOTAL=3\n")
        settings = load({"PRIVATE_KEY": KEY})
        assert [amount(settings, name) for name in ("MAX_PER_DAY", "MAX_TOTAL")] == ["0.50", "3.00"]
        assert settings.warnings == ()

    def test_a_file_without_the_key_may_only_lower_what_is_approved_and_runs_no_command(self) -> None:
        write(".env", "X402_AUDIO_APPROVE_ABOVE=0.50\nX402_AUDIO_NOTIFY_COMMAND=mine\n")
        settings = load({"PRIVATE_KEY": KEY})
        assert (amount(settings, "APPROVE_ABOVE"), settings.notify_command) == ("0.50", ())
        assert amount(load({"PRIVATE_KEY": KEY, "APPROVE_ABOVE": "0.75"}), "APPROVE_ABOVE") == "0.50"
        assert amount(load({"PRIVATE_KEY": KEY, "APPROVE_ABOVE": "0.25"}), "APPROVE_ABOVE") == "0.25"
        write("x402-audio.toml", 'notify_command = "mine"\napprove_above = "9"\n')
        settings = load({"PRIVATE_KEY": KEY, "APPROVE_ABOVE": "0.25"})
        assert (amount(settings, "APPROVE_ABOVE"), settings.notify_command) == ("0.25", ())

    def test_a_file_with_the_same_key_is_trusted(self) -> None:
        write(".env", f"{STRANGER.replace('X402_AUDIO_VENICE_API_KEY=theirs-theirs', '')}WALLET_KEY={KEY}\n")
        settings = load({"PRIVATE_KEY": KEY})
        assert settings.api_url == STRANGE_API
        assert amount(settings, "MAX_TOP_UP") == "500.00"

    def test_a_file_with_another_key_is_not_trusted(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={OTHER_KEY}\nX402_AUDIO_API_URL={STRANGE_API}\n")
        settings = load({"PRIVATE_KEY": KEY})
        assert settings.private_key.reveal() == KEY
        assert settings.api_url == "https://api.venice.ai/api/v1"

    def test_a_file_with_a_wallet_key_is_not_trusted_with_our_account_key(self) -> None:
        write(
            ".env",
            f"X402_AUDIO_PRIVATE_KEY={OTHER_KEY}\nX402_AUDIO_API_URL={STRANGE_API}\nX402_AUDIO_BILLING=account\n",
        )
        settings = load({"VENICE_API_KEY": VENICE_KEY})
        assert settings.account_origin == "https://api.venice.ai"
        assert settings.api_url == "https://api.venice.ai/api/v1"

    @pytest.mark.parametrize("where", ["setting", "state folder"])
    def test_a_file_with_an_account_key_is_not_trusted_with_our_keystore(
        self, where: str, tmp_path: Path
    ) -> None:
        (tmp_path / "keystore.json").write_text("{}")
        write(".env", f"X402_AUDIO_VENICE_API_KEY={VENICE_KEY}\nX402_AUDIO_API_URL={STRANGE_API}\n")
        env = (
            {"STATE_DIR": str(tmp_path)}
            if where == "state folder"
            else {"KEYSTORE": str(tmp_path / "keystore.json")}
        )
        assert load(env).api_url == "https://api.venice.ai/api/v1"

    def test_naming_the_file_trusts_it(self) -> None:
        write("mine.env", f"X402_AUDIO_API_URL={STRANGE_API}\nX402_AUDIO_MAX_PER_DAY=9\n")
        settings = load({"PRIVATE_KEY": KEY}, env_file="mine.env")
        assert settings.api_url == STRANGE_API
        assert amount(settings, "MAX_PER_DAY") == "9.00"

    def test_a_named_file_stands_in_place_of_the_folders_own(self) -> None:
        write(".env", "X402_AUDIO_MAX_PER_DAY=0.01\n")
        write("mine.env", f"X402_AUDIO_PRIVATE_KEY={KEY}\n")
        assert amount(load(env_file="mine.env"), "MAX_PER_DAY") == "5.00"

    def test_a_file_others_may_write_is_ignored(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\n", 0o620)
        settings = load()
        assert not settings.private_key
        assert settings.warnings == (".env is ignored: it must be yours and writable by nobody else",)

    def test_a_file_of_another_user_is_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\n")
        owner = os.stat(".env").st_uid
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
        assert not load().private_key

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        write(str(tmp_path / "real"), f"X402_AUDIO_PRIVATE_KEY={KEY}\n")
        Path(".env").symlink_to(tmp_path / "real")
        settings = load()
        assert not settings.private_key
        assert ".env is ignored" in settings.warnings[0]

    def test_a_key_others_can_read_is_warned_of(self) -> None:
        write(".env", f"X402_AUDIO_PRIVATE_KEY={KEY}\n", 0o644)
        settings = load()
        assert settings.private_key
        assert settings.warnings == (".env holds a key and others can read it; run: chmod 600 .env",)

    @pytest.mark.parametrize(("mode", "why"), [(0o666, "writable by others"), (None, "cannot be read")])
    def test_a_named_file_that_is_unfit_is_an_error(self, mode: int | None, why: str) -> None:
        if mode is not None:
            write("mine.env", "", mode)
        with pytest.raises(ConfigurationError, match=why):
            load(env_file="mine.env")

    def test_an_endless_file_is_refused(self) -> None:
        write(".env", "#" * 70_000)
        with pytest.raises(ConfigurationError, match="larger"):
            load()


class TestToml:
    def test_tables_give_limits_per_origin_label_model_and_payee(self) -> None:
        write("x402-audio.toml", f"""
max_per_day = "1.00"
[origin."https://Audio.Example:443/"]
max_per_day = "0.50"
[label.jingles]
max_per_month = "3"
[model.elevenlabs-music]
max_per_job = "0.70"
[payee.{PAYEE}]
max_total = "9"
""")  # fmt: skip
        found = {(one.scope, one.window, one.amount.usd) for one in load().limits if one.source == "file"}
        assert found == {
            ("all", "day", "1.00"), ("origin:https://audio.example", "day", "0.50"), ("label:jingles", "month", "3.00"),
            ("model:elevenlabs-music", "job", "0.70"), (f"payee:{PAYEE.lower()}", "ever", "9.00"),
        }  # fmt: skip

    @pytest.mark.parametrize("value", ["1.5", "2", "true", "[1]", "2020-01-01"])
    def test_an_amount_that_is_no_text_is_refused(self, value: str) -> None:
        write("x402-audio.toml", f"max_per_day = {value}\n")
        with pytest.raises(
            ConfigurationError, match=r'max_per_day must be text in quotes, like max_per_day = "1.00"'
        ):
            load()

    def test_it_may_only_lower(self) -> None:
        write("x402-audio.toml", f'max_per_month = "500"\napi_url = "{STRANGE_API}"\nmax_per_hour = "4"\n')
        settings = load({"PRIVATE_KEY": KEY})
        assert [amount(settings, name) for name in ("MAX_PER_MONTH", "MAX_PER_HOUR")] == ["50.00", "4.00"]
        assert settings.api_url == "https://api.venice.ai/api/v1"
        assert "ignored: API_URL, MAX_PER_MONTH" in settings.warnings[0]

    def test_named_it_may_raise(self) -> None:
        write("mine.toml", 'max_per_month = "500"\n')
        assert amount(load(env_file="mine.toml"), "MAX_PER_MONTH") == "500.00"

    def test_a_key_does_not_belong_into_it(self) -> None:
        write("x402-audio.toml", f'private_key = "{KEY}"\n')
        with pytest.raises(ConfigurationError, match="does not belong here") as refused:
            load()
        assert KEY not in str(refused.value)

    @pytest.mark.parametrize(
        "text", ["max_per_day = ", "[origin]\n'https://a.example' = 1\n", '[label]\nx = "1"\n']
    )
    def test_what_cannot_be_read_is_refused_in_one_line(self, text: str) -> None:
        write("x402-audio.toml", text)
        with pytest.raises(ConfigurationError, match=r"^x402-audio\.toml[^\n]*$"):
            load()

    def test_a_misspelt_name_is_warned_of_with_the_nearest(self) -> None:
        write("x402-audio.toml", 'max_per_dya = "1"\n[lable.x]\nmax_per_day = "1"\n')
        assert [text.split("; ")[1] for text in load().warnings] == [
            "did you mean max_per_day?",
            "did you mean [label]?",
        ]


class TestValues:
    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("http://api.venice.ai/api/v1", "must begin with https"),
            ("http://localhost:1/api", "must begin with https"),
            ("http://[::ffff:127.0.0.1]/", "must begin with https"),
            ("ftp://127.0.0.1/", "must begin with https"),
            ("https://me:secret@api.venice.ai/", "user name or password"),
            ("https://api.venice.ai/?key=1", "query"),
            ("https://api.venice.ai/#x", "query"),
            ("https:///api", "not a URL"),
            ("https://api.venice.ai:99999/", "not a URL"),
            ("https://api venice.ai/", "not a URL"),
            ("https://api.venice.ai\\@evil.example/", "not a URL"),
            ("https://vènice.ai/", "not a URL"),
            ("venice", "not a URL"),
        ],
    )
    @pytest.mark.parametrize("name", ["API_URL", "RPC_URL"])
    def test_a_url_that_could_lead_astray_is_refused(self, name: str, url: str, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why) as refused:
            load({name: url})
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:8/api/v1/", "http://127.9.9.9/api/v1", "http://[::1]:8/api/v1"]
    )
    def test_literal_loopback_may_be_plain_http_and_polled_fast(self, url: str) -> None:
        settings = load({"API_URL": url})
        assert settings.api_url == url.rstrip("/")
        assert settings.fast_poll

    @pytest.mark.parametrize("name", ["MAX_PER_DAY", "MAX_TOP_UP", "MAX_TOTAL"])
    @pytest.mark.parametrize("text", ["-1", "1e3", "NaN", "1,5", "$2", "0.0000001", "inf", "٣"])
    def test_an_amount_that_is_no_plain_dollars_is_refused_by_name(self, name: str, text: str) -> None:
        with pytest.raises(ConfigurationError, match=name):
            load({name: text})

    @pytest.mark.parametrize(
        ("name", "value"),
        [("PROVIDER", "stripe"), ("PROVIDER", "marketplace"), ("NETWORK", "ethereum"), ("BILLING", "cash"),
         ("STORE_PROMPTS", "perhaps"), ("PAYEES", "0x12"), ("LABEL", "a b"), ("HEADER_PROFILE", "old"),
         ("SIGNER_URL", "https://x.example"), ("APPROVE_ABOVE", "ask me"), ("NOTIFY_COMMAND", "mail 'me"),
         ("NOTIFY_COMMAND", "./mail me")],
    )  # fmt: skip
    def test_a_value_outside_its_set_is_refused_by_name(self, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=name) as refused:
            load({name: value})
        assert "\n" not in str(refused.value)

    def test_a_database_url_is_refused_without_its_password(self) -> None:
        with pytest.raises(ConfigurationError, match="not in this version") as refused:
            load({"LEDGER": "postgresql://me:hunter2@db/x"})
        assert "hunter2" not in str(refused.value)

    def test_lists_are_comma_separated_and_payees_lose_their_case(self) -> None:
        settings = load(
            {"PAYEES": f"{PAYEE}, {'0x' + 'cd' * 20}", "RPC_URL": "https://a.example,https://b.example/k"}
        )
        assert settings.payees == {PAYEE.lower(), "0x" + "cd" * 20}
        assert settings.rpc_urls == ("https://a.example", "https://b.example/k")

    def test_an_empty_value_is_not_set(self) -> None:
        assert load({"API_URL": "", "MAX_TOTAL": " "}).sources["API_URL"] == "default"

    def test_a_misspelt_name_is_warned_of_with_the_nearest(self) -> None:
        (warning,) = load({"MAX_PER_HUOR": "1"}).warnings
        assert warning.endswith("did you mean X402_AUDIO_MAX_PER_HOUR?")

    def test_what_this_version_cannot_do_is_said(self) -> None:
        assert load({"MARKETPLACE_KEY": "k"}).warnings == (
            "MARKETPLACE_KEY is not in this version and is passed over",
        )

    def test_a_command_is_split_into_words_and_never_given_to_a_shell(self) -> None:
        assert load({"NOTIFY_COMMAND": "mail -s 'a limit' me; true"}).notify_command == (
            "mail", "-s", "a limit", "me;", "true",
        )  # fmt: skip
