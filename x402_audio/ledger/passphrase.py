"""The owner's passphrase: its argon2id hash and whether a typed one matches. Knows no ledger and never keeps the text."""

from __future__ import annotations

from typing import Final

from x402_audio.errors import LedgerError
from x402_audio.secret import Secret

LENGTH_MIN: Final = 8
TRIES_FREE: Final = 5
"""So many wrong ones in a row are answered at once; from then on each next try has to wait."""
WAIT_FIRST_S: Final = 30
WAIT_LONGEST_S: Final = 3600


def hash_of(passphrase: Secret) -> str:
    """The argon2id hash with its salt and cost, as text."""
    from argon2 import PasswordHasher

    return PasswordHasher().hash(passphrase.reveal())


def matches(kept: str, passphrase: Secret) -> bool:
    """Whether this is the passphrase of the hash. Raises LedgerError when the kept hash cannot be read."""
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

    try:
        return PasswordHasher().verify(kept, passphrase.reveal())
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError):
        pass  # raised outside: frames of the library hold the text
    raise LedgerError("the owner's passphrase in the ledger cannot be read")


def wait_after(failures: int) -> int:
    """Seconds the next try has to wait after so many wrong ones in a row."""
    if failures < TRIES_FREE:
        return 0
    return min(WAIT_FIRST_S << min(failures - TRIES_FREE, 20), WAIT_LONGEST_S)
