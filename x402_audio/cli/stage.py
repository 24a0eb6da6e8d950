"""What every command stands on: its arguments, the settings they lead to, a client, and the way it speaks.

Reads settings only when asked, so that help and usage errors need none. Holds no rules of money.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from x402_audio.cli.output import Output
from x402_audio.cli.terminal import Terminal
from x402_audio.errors import ConfigurationError, LedgerError, MoneyMoved
from x402_audio.jsontext import read_json_object

if TYPE_CHECKING:
    from x402_audio.client import AudioClient
    from x402_audio.ledger.book import Ledger
    from x402_audio.protocol.signer import Signer
    from x402_audio.settings import Settings

SANDBOX_FILE: Final = "sandbox.json"
_FLAGS: Final = {"API_URL": "api_url", "PROVIDER": "provider", "LEDGER": "ledger", "LABEL": "label"}


@dataclass
class Stage:
    """One command being run."""

    args: argparse.Namespace
    output: Output
    terminal: Terminal = field(init=False)
    _settings: Settings | None = None

    def __post_init__(self) -> None:
        self.terminal = Terminal(self.output)

    @property
    def settings(self) -> Settings:
        """The effective settings, read once; their warnings are said."""
        if self._settings is None:
            self.use(self._sandbox_settings() if self.args.sandbox else self._own_settings())
        assert self._settings is not None
        return self._settings

    def use(self, settings: Settings) -> None:
        """Go on with these settings."""
        for secret in (settings.private_key, settings.venice_api_key):
            self.output.hide(secret.reveal())
        for warning in settings.warnings:
            self.output.warn(warning)
        self._settings = settings

    @contextmanager
    def client(self, *, opens_key: bool = True) -> Iterator[AudioClient]:
        """A client for this command. `opens_key`: a keystore's password may be asked for."""
        from x402_audio.client import AudioClient

        settings = self.settings
        signer = self._ask_for_keystore(settings) if opens_key else None
        make_private_folder(settings.state_dir)
        with AudioClient(settings, signer=signer, on_notice=self.terminal) as client:
            try:
                yield client
            finally:
                self.terminal.close()

    @contextmanager
    def books(self) -> Iterator[Ledger]:
        """The books alone, for a command that only reads them: no client, nothing that speaks to anybody."""
        from x402_audio.ledger.sqlite import SqliteLedger

        make_private_folder(self.settings.state_dir)
        with closing(SqliteLedger(self.settings.ledger)) as ledger:
            yield ledger

    def money_of(self, job_id: str) -> MoneyMoved:
        """What the books know of a job's money, for a command that was stopped before it could say so."""
        if self._settings is None or not self._settings.ledger.exists():
            return "no"
        from x402_audio.ledger.sqlite import SqliteLedger
        from x402_audio.payment.books import moved

        try:
            ledger = SqliteLedger(self._settings.ledger, create=False)
        except LedgerError:
            return "unknown"
        with closing(ledger):
            return moved(lambda: ledger.holds(job_id=job_id))

    def _flags(self) -> dict[str, str]:
        return {name: value for name, word in _FLAGS.items() if (value := getattr(self.args, word))}

    def _own_settings(self) -> Settings:
        from x402_audio.settings import load_settings

        return load_settings(env_file=self.args.env_file, flags=self._flags())

    def _ask_for_keystore(self, settings: Settings) -> Signer | None:
        from x402_audio.cli.owner import ask_password, at_a_terminal

        if settings.keystore is None or settings.keystore_password_file is not None or not at_a_terminal():
            return None
        from x402_audio.protocol.keystore import open_keystore

        return open_keystore(settings.keystore, ask_password(f"password of {settings.keystore}"))

    def _sandbox_settings(self) -> Settings:
        """Those of the running sandbox; neither the environment nor any file is asked."""
        flags = self._flags()
        if set(flags) & {"API_URL", "LEDGER"} or self.args.env_file:
            raise ConfigurationError(
                "--sandbox brings its own seller, key and ledger; leave the other flags out"
            )
        return sandbox_settings(running_sandbox(), flags)


def make_private_folder(path: Path) -> None:
    """The state folder, for its owner alone. Raises ConfigurationError when it cannot be made, or others can change it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"STATE_DIR {path} cannot be made: {error.strerror}", next_step="set X402_AUDIO_STATE_DIR"
        ) from None
    if facts.st_uid not in (os.getuid(), 0):
        raise ConfigurationError(
            f"STATE_DIR {path} belongs to another user",
            next_step="set X402_AUDIO_STATE_DIR to a folder of yours",
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(f"STATE_DIR {path} can be changed by others", next_step=f"chmod 700 {path}")


def sandbox_folder() -> Path:
    """Where a running sandbox leaves word of itself: below the state folder, wherever that is set to be."""
    from platformdirs import user_state_dir

    return (
        Path(os.environ.get("X402_AUDIO_STATE_DIR") or user_state_dir("x402_audio")).expanduser() / "sandbox"
    )


def running_sandbox() -> dict[str, str]:
    """What the running sandbox wrote of itself. Raises ConfigurationError when none answers."""
    import socket

    nobody = ConfigurationError("no sandbox is running", next_step="in another terminal: x402-audio sandbox")
    try:
        told = read_json_object((sandbox_folder() / SANDBOX_FILE).read_bytes())
        words = {name: str(told[name]) for name in ("api_url", "rpc_url", "state", "key_file", "mode")}
        where = urlsplit(words["api_url"])
        socket.create_connection((where.hostname or "", where.port or 0), timeout=5).close()
        return {**words, "key": Path(words["key_file"]).read_text().strip()}
    except (OSError, ValueError, KeyError, TypeError):
        raise nobody from None


def sandbox_settings(running: dict[str, str], flags: dict[str, str]) -> Settings:
    """Settings of a sandbox: its seller, chain and key, books of their own, nothing of yours."""
    from x402_audio.settings import load_settings

    env = {
        "X402_AUDIO_PRIVATE_KEY": running["key"], "X402_AUDIO_API_URL": running["api_url"],
        "X402_AUDIO_RPC_URL": running["rpc_url"], "X402_AUDIO_STATE_DIR": running["state"],
    }  # fmt: skip
    return load_settings(env=env, flags=flags, sandbox=True)
