"""Settings: flags, environment, `.env` and `x402-audio.toml` become checked values that know where they came from.

Reads only the current folder, never a parent. A file that does not itself hold the key in effect may lower limits and
nothing else: a stranger's clone must not redirect money. Knows no seller, opens no ledger, dials nobody.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast, get_args
from urllib.parse import urlsplit

from x402_audio.errors import ConfigurationError
from x402_audio.ledger.book import Limit, LimitSource
from x402_audio.ledger.limits import DEFAULTS, SETTINGS, top_ups_per_day
from x402_audio.money import ZERO, Usdc
from x402_audio.secret import Secret

PREFIX: Final = "X402_AUDIO_"
VENICE_API_URL: Final = "https://api.venice.ai/api/v1"
VENICE_ORIGIN: Final = "https://api.venice.ai"
TOML_NAME: Final = "x402-audio.toml"
KEYSTORE_NAME: Final = "keystore.json"
VALIDITY_S: Final = 300
FILE_BYTES_MAX: Final = 64 * 1024
BRACKETS_MAX: Final = 250
"""In a toml file: its reader follows nested ones by recursion."""
WARNINGS_MAX: Final = 30
KEY_NAMES: Final = (PREFIX + "PRIVATE_KEY", "EVM_PRIVATE_KEY", "WALLET_KEY")

ProviderChoice = Literal["auto", "venice", "direct"]
BillingChoice = Literal["wallet", "account"]
NetworkName = Literal["base", "base-sepolia"]
HeaderProfile = Literal["current", "legacy"]
Environment = Literal["live", "sandbox"]

LIMITS: Final = SETTINGS

_TEXTS: Final = (
    "KEYSTORE", "KEYSTORE_PASSWORD_FILE", "PROVIDER", "API_URL", "BILLING", "NETWORK", "RPC_URL", "STATE_DIR",
    "LEDGER", "LABEL", "STORE_PROMPTS", "PAYEES", "HEADER_PROFILE", "NOTIFY_COMMAND",
)  # fmt: skip
_SECRETS: Final = ("PRIVATE_KEY", "VENICE_API_KEY")
_REFUSED: Final = ("SIGNER_URL",)
"""Not in this version, and money would move otherwise than its owner wrote if they were passed over."""
_PASSED_OVER: Final = ("MARKETPLACE_URL", "MARKETPLACE_KEY")
_KNOWN: Final = (*_TEXTS, *_SECRETS, *_REFUSED, *_PASSED_OVER, *LIMITS)
_SCOPES: Final = ("origin", "payee", "model", "label")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", re.ASCII)
_YES: Final = frozenset({"yes", "true", "1", "on"})
_NO: Final = frozenset({"no", "false", "0", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the owner has set, checked. `sources` names where each setting came from; `limits` carry theirs.

    Amounts in atomic units. `limits` holds every one that was written plus the built-in defaults: the ledger merges
    (smallest explicit, else default). `fast_poll`: polling below 2 s is allowed (loopback only).
    `settings_file`: the one named by `--env-file`.
    """

    state_dir: Path
    ledger: Path
    private_key: Secret = field(default_factory=Secret)
    keystore: Path | None = None
    keystore_password_file: Path | None = None
    provider: ProviderChoice = "auto"
    api_url: str = VENICE_API_URL
    api_url_source: LimitSource = "default"
    billing: BillingChoice = "wallet"
    network: NetworkName = "base"
    rpc_urls: tuple[str, ...] = ()
    venice_api_key: Secret = field(default_factory=Secret)
    account_origin: str = VENICE_ORIGIN
    label: str = ""
    store_prompts: bool = True
    payees: frozenset[str] = frozenset()
    max_top_up: Usdc = ZERO
    limits: tuple[Limit, ...] = ()
    environment: Environment = "live"
    header_profile: HeaderProfile = "current"
    notify_command: tuple[str, ...] = ()
    max_validity_s: int = VALIDITY_S
    fast_poll: bool = False
    settings_file: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def limits_with(
        self, *, max_price: Usdc | None = None, max_top_up: Usdc | None = None, max_total: Usdc | None = None
    ) -> tuple[Limit, ...]:
        """These limits and those of one call (source `flag`); the day's top-ups follow a raised default MAX_TOP_UP."""
        given = {
            "MAX_PER_PAYMENT": max_price, "MAX_PER_JOB": max_price, "MAX_TOP_UP": max_top_up, "MAX_TOTAL": max_total,
        }  # fmt: skip
        written = [limit for limit in self.limits if limit.source != "default"]
        return _with_defaults([*written, *_limits("flag", given)])


@dataclass(frozen=True, slots=True)
class _Layer:
    """The settings of one source by their short names, e.g. `API_URL`; keys by their full names."""

    source: LimitSource
    name: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Values:
    """The layers, strongest first."""

    layers: tuple[_Layer, ...]
    cwd: Path

    def find(self, name: str) -> tuple[str, LimitSource]:
        for layer in self.layers:
            if layer.values.get(name):
                return layer.values[name], layer.source
        return "", "default"

    def text(self, name: str) -> str:
        return self.find(name)[0]

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return self.cwd / Path(text).expanduser() if text else None

    def one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        text = self.text(name) or default
        if text not in allowed:
            raise ConfigurationError(f"{name} must be one of: {', '.join(allowed)}")
        return text


def load_settings(
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    env_file: str | os.PathLike[str] | None = None,
    flags: Mapping[str, str] | None = None,
    sandbox: bool = False,
) -> Settings:
    """The effective settings. `flags` by their short names (`API_URL`); `sandbox` reads no file.

    Raises ConfigurationError with one line that names the setting, never a secret's value.
    """
    env = os.environ if env is None else env
    cwd = Path.cwd() if cwd is None else cwd
    warnings: list[str] = []
    flag = _Layer(
        "flag", "the command line", {name.upper(): value for name, value in (flags or {}).items() if value}
    )
    if set(flag.values) & {*_SECRETS, *KEY_NAMES}:
        raise ConfigurationError("a key is never given on a command line; use the environment or a keystore")
    environment = _Layer("environment", "the environment", _ours(env, "the environment", warnings))
    layers, scoped = [flag, environment], list[Limit]()
    if not sandbox:
        files = _files(cwd, env_file, warnings)
        for layer, tables, trusted in files:
            kept = (
                layer if trusted or _holds_the_key(layer, environment) else _lowering(layer, layers, warnings)
            )
            layers.append(kept)
            scoped += tables
    values = _Values(tuple(layers), cwd)
    named = None if sandbox or env_file is None else cwd / Path(env_file).expanduser()
    return replace(_checked(values, scoped, warnings, sandbox=sandbox), settings_file=named)


def _checked(values: _Values, scoped: list[Limit], warnings: list[str], *, sandbox: bool) -> Settings:
    _refuse_what_is_not_here(values, warnings)
    key, key_source = _private_key(values)
    state_dir = values.path("STATE_DIR") or _default_state_dir()
    keystore = values.path("KEYSTORE")
    if key and keystore:
        raise ConfigurationError("a private key and KEYSTORE are both set; keep one")
    if not key and keystore is None and (state_dir / KEYSTORE_NAME).is_file():
        keystore = state_dir / KEYSTORE_NAME
    api_url, api_url_source = values.find("API_URL")
    api_url = check_url("API_URL", api_url or VENICE_API_URL)
    venice_key, venice_source = values.find("VENICE_API_KEY")
    has_wallet = bool(key) or keystore is not None
    billing = values.one_of(
        "BILLING", get_args(BillingChoice), "account" if venice_key and not has_wallet else "wallet"
    )
    limits = _with_defaults([*_written(values), *scoped])
    sources = {name: values.find(name)[1] for name in _KNOWN}
    return Settings(
        private_key=Secret(key),
        keystore=keystore,
        keystore_password_file=values.path("KEYSTORE_PASSWORD_FILE"),
        provider=cast(ProviderChoice, _provider(values)),
        api_url=api_url,
        api_url_source=api_url_source,
        billing=cast(BillingChoice, billing),
        network=cast(NetworkName, values.one_of("NETWORK", get_args(NetworkName), "base")),
        rpc_urls=tuple(check_url("RPC_URL", url) for url in _listed(values.text("RPC_URL"))),
        venice_api_key=Secret(venice_key),
        account_origin=origin_of_url(api_url)
        if venice_key and api_url_source == venice_source
        else VENICE_ORIGIN,
        state_dir=state_dir,
        ledger=_ledger(values, state_dir),
        label=_label(values.text("LABEL")),
        store_prompts=_yes_or_no("STORE_PROMPTS", values.text("STORE_PROMPTS") or "yes"),
        payees=frozenset(_address(text) for text in _listed(values.text("PAYEES"))),
        max_top_up=_smallest(limits, "MAX_TOP_UP") or ZERO,
        limits=limits,
        environment="sandbox" if sandbox else "live",
        header_profile=cast(
            HeaderProfile, values.one_of("HEADER_PROFILE", get_args(HeaderProfile), "current")
        ),
        notify_command=_command("NOTIFY_COMMAND", values.text("NOTIFY_COMMAND")),
        fast_poll=_is_loopback(urlsplit(api_url).hostname or ""),
        sources={**sources, "PRIVATE_KEY": key_source} | _limit_sources(limits),
        warnings=tuple(warnings),
    )


# --- layers


def _ours(values: Mapping[str, str], where: str, warnings: list[str]) -> dict[str, str]:
    """The settings among a source's names, without the prefix; the fallback key names as they are."""
    ours: dict[str, str] = {}
    for name, value in values.items():
        short = name.removeprefix(PREFIX)
        if name in KEY_NAMES:
            ours[name] = value.strip()
        elif name.startswith(PREFIX):
            if short in _KNOWN:
                ours[short] = value.strip()
            elif len(warnings) < WARNINGS_MAX:
                warnings.append(
                    f"{where}: {_shown(name)} is no setting of x402_audio{_nearest(short, _KNOWN, PREFIX)}"
                )
    return {name: value for name, value in ours.items() if value}


def _shown(text: str) -> str:
    """A stranger's word, fit for one line."""
    word = "".join(letter if letter.isprintable() else "?" for letter in text[:80])
    return word if len(text) <= 80 else f"{word}…"


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    if len(name) > 80:
        return ""
    from difflib import get_close_matches

    near = get_close_matches(name.upper(), list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _files(
    cwd: Path, env_file: str | os.PathLike[str] | None, warnings: list[str]
) -> Iterator[tuple[_Layer, list[Limit], bool]]:
    """The files that are read: (values, scoped limits, named by the owner). A named one is read in place of `.env`."""
    if env_file is None:
        text = _own_text(cwd / ".env", ".env", warnings)
        if text is not None:
            yield _dotenv(text, ".env", warnings), [], False
    else:
        path = Path(env_file).expanduser()
        text = _named_text(cwd / path, warnings)
        if path.suffix == ".toml":
            layer, scoped = _toml(text, path.name, warnings)
            yield layer, scoped, True
        else:
            yield _dotenv(text, path.name, warnings), [], True
    text = _own_text(cwd / TOML_NAME, TOML_NAME, warnings)
    if text is not None:
        layer, scoped = _toml(text, TOML_NAME, warnings)
        yield layer, scoped, False


def _own_text(path: Path, name: str, warnings: list[str]) -> str | None:
    """A file of the current folder, if it is ours alone to write; links are not followed. Else None and a warning."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        warnings.append(f"{name} is ignored: {error.strerror}")
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return None
        if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            warnings.append(f"{name} is ignored: it must be yours and writable by nobody else")
            return None
        return _decoded(file, about, name, warnings)


def _named_text(path: Path, warnings: list[str]) -> str:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_uid not in (os.getuid(), 0):
            raise ConfigurationError("--env-file must be a file of yours")
        if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError("--env-file is writable by others; run: chmod go-w on it")
        with path.open("rb") as file:
            return _decoded(file, about, path.name, warnings)
    except OSError as error:
        raise ConfigurationError(f"--env-file cannot be read: {error.strerror}") from None


def _decoded(file: BinaryIO, about: os.stat_result, name: str, warnings: list[str]) -> str:
    raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{name} is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name} is not UTF-8 text") from None
    keys = (*KEY_NAMES, PREFIX + "VENICE_API_KEY")
    if about.st_mode & (stat.S_IRGRP | stat.S_IROTH) and any(key in text for key in keys):
        warnings.append(f"{name} holds a key and others can read it; run: chmod 600 {name}")
    return text


def _dotenv(text: str, name: str, warnings: list[str]) -> _Layer:
    from io import StringIO

    from dotenv import dotenv_values

    read = dotenv_values(stream=StringIO(text), interpolate=False)
    return _Layer("file", name, _ours({key: value for key, value in read.items() if value}, name, warnings))


def _toml(text: str, name: str, warnings: list[str]) -> tuple[_Layer, list[Limit]]:
    import tomllib

    if sum(map(text.count, "[{")) > BRACKETS_MAX:
        raise ConfigurationError(f"{name} has more than {BRACKETS_MAX} tables and lists")
    try:
        read = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one; a number of thousands of digits is another
        raise ConfigurationError(f"{name} cannot be read: {_shown(str(error))}") from None
    plain: dict[str, str] = {}
    scoped: list[Limit] = []
    for key, value in read.items():
        if isinstance(value, dict):
            if key not in _SCOPES:
                warnings.append(f"{name}: [{_shown(key)}] is no scope of limits{_nearest_scope(key)}")
                continue
            for subject, table in value.items():
                scoped += _table(name, key, subject, table, warnings)
        elif key.upper() in _SECRETS:
            raise ConfigurationError(
                f"{name}: a key does not belong here; keep {key.upper()} in .env or a keystore"
            )
        elif key.upper() in _KNOWN:
            plain[key.upper()] = _toml_text(name, key, value)
        elif len(warnings) < WARNINGS_MAX:
            nearest = _nearest(key, _KNOWN).lower()
            warnings.append(f"{name}: {_shown(key)} is no setting of x402_audio{nearest}")
    return _Layer("file", name, plain), scoped


def _table(name: str, kind: str, subject: str, table: object, warnings: list[str]) -> Iterator[Limit]:
    """The limits of one scope. They only ever narrow, so no key is asked for."""
    if not isinstance(table, dict):
        raise ConfigurationError(f'{name}: write [{kind}."{_shown(subject)}"] and its limits below')
    scope = f"{kind}:{_subject(name, kind, subject)}"
    for key, value in table.items():
        if key.upper() not in LIMITS:
            if len(warnings) < WARNINGS_MAX:
                warnings.append(f"{name}: {_shown(key)} is no limit{_nearest(key, LIMITS).lower()}")
            continue
        amounts = {key.upper(): _amount(key, _toml_text(name, key, value))}
        yield from _limits("file", amounts, scope)


def _subject(name: str, kind: str, subject: str) -> str:
    if kind == "origin":
        return origin_of_url(check_url(f"{name}: an origin", subject))
    if kind == "payee":
        return _address(subject)
    return _label(subject) if kind == "label" else subject


def _nearest_scope(key: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key[:80], _SCOPES, n=1)
    return f"; did you mean [{near[0]}]?" if near else ""


def _toml_text(name: str, key: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str):
        raise ConfigurationError(f'{name}: {key} must be text in quotes, like {key} = "1.00"')
    return value.strip()


# --- trust


def _holds_the_key(file: _Layer, environment: _Layer) -> bool:
    """Whether the file holds every key in effect: then it is as much the owner's as the key is."""
    keys = {_bare(file.values[name]) for name in KEY_NAMES if name in file.values}
    others = {_bare(environment.values[name]) for name in KEY_NAMES if name in environment.values}
    account, other_account = file.values.get("VENICE_API_KEY"), environment.values.get("VENICE_API_KEY")
    if not others <= keys or (other_account and account != other_account):
        return False
    if keys:
        return "KEYSTORE" not in environment.values
    state_dir = Path(environment.values.get("STATE_DIR") or _default_state_dir())
    has_keystore = "KEYSTORE" in environment.values or (state_dir.expanduser() / KEYSTORE_NAME).exists()
    return bool(account) and not has_keystore


def _lowering(file: _Layer, stronger: list[_Layer], warnings: list[str]) -> _Layer:
    """What may stay of a file that does not hold the key: limits below those that stand without it."""
    standing = _Values(tuple(stronger), Path())
    limits = _with_defaults(_written(standing))
    kept: dict[str, str] = {}
    has_key = any(name in layer.values for layer in stronger for name in KEY_NAMES)
    for name, text in file.values.items():
        if name in KEY_NAMES and has_key and not standing.text(name):
            kept[name] = text  # another key under another name: refused where the keys are compared
        if name in LIMITS:
            now = _smallest(limits, name)
            if now is None or _amount(name, text) <= now:
                kept[name] = text
    ignored = sorted(name.removeprefix(PREFIX) for name in set(file.values) - set(kept))
    if ignored:
        warnings.append(
            f"{file.name} does not hold the key in use, so it may only lower limits; ignored: {', '.join(ignored)}"
            f" (if the file is yours: --env-file {file.name})"
        )
    return _Layer(file.source, file.name, kept)


def _private_key(values: _Values) -> tuple[str, str]:
    """(key, where from). Of one name the stronger source wins; different names must agree."""
    found = [(name, *values.find(name)) for name in KEY_NAMES if values.text(name)]
    if len({_bare(text) for _, text, _ in found}) > 1:
        names = ", ".join(name for name, _, _ in found)
        raise ConfigurationError(f"{names} hold different keys; keep the one whose wallet shall pay")
    if not found:
        return "", "default"
    name, text, source = found[0]
    return text, source if name.startswith(PREFIX) else f"{source} ({name})"


def _bare(key: str) -> str:
    return key.lower().removeprefix("0x")


# --- limits


def _written(values: _Values) -> list[Limit]:
    """The limits somebody wrote, of every source."""
    return [
        limit
        for layer in values.layers
        for limit in _limits(
            layer.source, {name: _amount(name, text) for name, text in layer.values.items() if name in LIMITS}
        )
    ]


def _limits(source: LimitSource, amounts: Mapping[str, Usdc | None], scope: str = "all") -> Iterator[Limit]:
    for name, amount in amounts.items():
        if amount is not None:
            purse, window, _ = LIMITS[name]
            yield Limit(purse, window, amount, scope, source)


def _with_defaults(written: list[Limit]) -> tuple[Limit, ...]:
    of_the_day = top_ups_per_day([*written, *DEFAULTS])
    return (*written, *DEFAULTS, *([of_the_day] if of_the_day else []))


def _smallest(limits: Iterable[Limit], name: str) -> Usdc | None:
    """The effective amount of a setting: the smallest written one, else its default, else None."""
    limit = limit_named(limits, name)
    return None if limit is None else limit.amount


def limit_named(limits: Iterable[Limit], name: str) -> Limit | None:
    """The effective limit of a setting over everything (scope `all`): the smallest written one, else the default."""
    purse, window, _ = LIMITS[name]
    mine = [limit for limit in limits if (limit.purse, limit.window, limit.scope) == (purse, window, "all")]
    return min(mine, key=lambda limit: (limit.source == "default", limit.amount), default=None)


def _limit_sources(limits: tuple[Limit, ...]) -> dict[str, str]:
    effective = {name: limit_named(limits, name) for name in LIMITS}
    return {name: limit.source if limit else "default" for name, limit in effective.items()}


def _amount(name: str, text: str) -> Usdc:
    try:
        return Usdc.parse_usd(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}", next_step=f"correct {name}, then repeat") from None


# --- single values


def check_url(name: str, url: str) -> str:
    """The URL without a trailing slash, its scheme in lower case. Raises ConfigurationError unless it is https, or http to literal loopback."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{name} is not a URL") from None
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or not host:
        raise ConfigurationError(f"{name} is not a URL")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{name} must not carry a user name or password")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"{name} must not carry a query or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ConfigurationError(f"{name} must begin with https:// (http only to 127.0.0.1 or [::1])")
    return f"{parts.scheme}{url[len(parts.scheme) :]}".rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def origin_of_url(url: str) -> str:
    """`scheme://host[:port]` in lower case, the default port left out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    named = f"[{host}]" if ":" in host else host
    default = {"https": 443, "http": 80}.get(parts.scheme)
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{named}{port}"


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ConfigurationError("PAYEES: an address is 0x and 40 hexadecimal digits")
    return text.lower()


def _label(text: str) -> str:
    if text and not _LABEL.fullmatch(text):
        raise ConfigurationError("LABEL: letters, digits and . _ / - only, at most 64")
    return text


def _command(name: str, text: str) -> tuple[str, ...]:
    """The words of a command that is run without a shell. A path must be absolute: this folder may be a stranger's."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        raise ConfigurationError(f"{name}: a quote is not closed") from None
    if words and "/" in words[0] and not words[0].startswith("/"):
        raise ConfigurationError(f"{name} must be an absolute path or a name found on PATH")
    return words


def _yes_or_no(name: str, text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ConfigurationError(f"{name} must be yes or no")
    return text.lower() in _YES


def _provider(values: _Values) -> str:
    if values.text("PROVIDER") == "marketplace":
        raise ConfigurationError("PROVIDER=marketplace is not in this version; use auto, venice or direct")
    return values.one_of("PROVIDER", get_args(ProviderChoice), "auto")


def _ledger(values: _Values, state_dir: Path) -> Path:
    text = values.text("LEDGER")
    if "://" in text:
        raise ConfigurationError("LEDGER: a database URL is not in this version; give the path of a file")
    return values.path("LEDGER") or state_dir / "ledger.db"


def _default_state_dir() -> Path:
    from platformdirs import user_state_dir

    return Path(user_state_dir("x402_audio"))


def _refuse_what_is_not_here(values: _Values, warnings: list[str]) -> None:
    for name in _REFUSED:
        if values.text(name):
            raise ConfigurationError(f"{name} is not in this version and cannot be passed over; remove it")
    warnings += [
        f"{name} is not in this version and is passed over" for name in _PASSED_OVER if values.text(name)
    ]
