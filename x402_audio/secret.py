"""A text that must not be seen: keys, passwords, tokens, payment and sign-in headers.

It hides from repr, str, format, pickling and comparison output; whoever really needs it says `reveal()`.
"""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Holds one secret text. Falsy when empty, so that "not set" reads naturally."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one call that sends or uses it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(set)" if self._text else "Secret(not set)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")
