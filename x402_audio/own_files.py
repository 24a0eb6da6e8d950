"""Keeps tracks and exports away from what is ours: books, keys, settings. Reads no file but the first bytes of one.

Knows where the settings say these lie, and nothing of jobs or money.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from x402_audio.errors import ConfigurationError
from x402_audio.settings import TOML_NAME, Settings, load_settings

_SETTINGS_NAMES: Final = frozenset({".env", TOML_NAME})
_LEDGERS: Final = ("", "-wal", "-shm")
"""Never opened here, by whatever name: closing one ends the locks of books that are open in this process."""
_DATABASE: Final = b"SQLite format 3\x00"


def check_not_ours(target: Path, settings: Settings) -> None:
    """Refuse a place for an output where books, keys or settings lie, links followed. Raises ConfigurationError.

    A sandbox is no way to those outside it.
    """
    known = [settings]
    if settings.environment == "sandbox":
        with suppress(ConfigurationError):
            known.append(load_settings())
    try:
        what = next((what for one in known for what in _ours(target, one)), "")
    except (OSError, RuntimeError, ValueError):  # a loop of links; a name no file system takes
        what = "no path of a file"
    if what:
        text = "".join(letter if letter.isprintable() else "?" for letter in str(target)[-300:])
        raise ConfigurationError(
            f"{text} is {what}; nothing is written there, --force or not", next_step="choose another --output"
        )


def _ours(target: Path, settings: Settings) -> Iterator[str]:
    """What the place is of ours, as often as it is."""
    state, ledger = settings.state_dir.resolve(), settings.ledger.resolve()
    single = {
        "the keystore": settings.keystore,
        "the password file of the keystore": settings.keystore_password_file,
        "a settings file": settings.settings_file,
    }
    for place in (target.parent.resolve() / target.name, target.resolve()):
        name, books = place.name.casefold(), ledger.name.casefold()
        if place.is_relative_to(state):
            yield "in the state folder"
        if place.parent == ledger.parent and (name == books or name.startswith((f"{books}-", f"{books}."))):
            yield "a file of the ledger"
        for suffix in _LEDGERS:
            if _is_one(place, ledger.with_name(ledger.name + suffix)):
                yield "a file of the ledger"
        if name in _SETTINGS_NAMES:
            yield "a settings file"
        for what, ours in single.items():
            if ours is not None and (place == ours.resolve() or _is_one(place, ours)):
                yield what
        if place.is_file():
            with place.open("rb") as file:
                if file.read(len(_DATABASE)) == _DATABASE:
                    yield "a database, and may be a copy of the ledger"


def _is_one(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
