"""Money: USDC as an integer of atomic units (1 USDC = 1,000,000 units = 1 USD of credit).

A float never meets it. Knows nothing of the wire, the ledger or anybody's limits.
"""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final, Self

DECIMALS: Final = 6
UINT256_MAX: Final = 2**256 - 1
_UNIT: Final = 10**DECIMALS
_DIGITS_MAX: Final = 11
_EXACT: Final = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
"""The usual context would round to 28 digits first, half up: in whose favour is then a matter of luck."""
_ATOMIC: Final = re.compile(r"[1-9][0-9]*", re.ASCII)
_USD: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?", re.ASCII)


class Usdc(int):
    """An amount in atomic units of USDC (6 decimals). Arithmetic stays exact and stays `Usdc`."""

    __slots__ = ()

    def __new__(cls, atomic: int) -> Self:
        if not isinstance(atomic, int) or isinstance(atomic, bool):
            raise TypeError("Usdc takes an integer of atomic units")
        return super().__new__(cls, atomic)

    @classmethod
    def from_atomic(cls, text: str) -> Usdc:
        """Read a wire amount: ASCII digits `[1-9][0-9]*` within uint256 (x402 `amount`, `maxAmountRequired`).

        Raises ValueError for anything else: zero, signs, spaces, other digits, exponents, JSON numbers.
        """
        if not isinstance(text, str) or len(text) > 78 or not _ATOMIC.fullmatch(text):
            raise ValueError("an atomic amount is a string of ASCII digits without leading zero")
        value = int(text)
        if value > UINT256_MAX:
            raise ValueError("an atomic amount must fit uint256")
        return cls(value)

    @classmethod
    def parse_usd(cls, text: str) -> Usdc:
        """Read what a person typed: plain dollars with at most six decimals, e.g. `"0.75"`.

        Raises ValueError for signs, exponents, separators, or parts of an atomic unit.
        """
        stripped = text.strip() if isinstance(text, str) else ""
        if not _USD.fullmatch(stripped):
            raise ValueError("write an amount in US dollars like 0.75")
        scaled = Decimal(stripped) * _UNIT
        if scaled != scaled.to_integral_value():
            raise ValueError("USDC has six decimals; write at most six")
        return cls(int(scaled))

    @classmethod
    def charge(cls, usd: Decimal) -> Usdc:
        """USD the seller takes, rounded up (against us). Raises ValueError unless finite and bounded."""
        return cls(_scaled(usd, ROUND_CEILING))

    @classmethod
    def credit(cls, usd: Decimal) -> Usdc:
        """USD the seller owes us (balances, refunds), rounded down (against us)."""
        return cls(_scaled(usd, ROUND_FLOOR))

    def ceil_to_cent(self) -> Usdc:
        """The smallest whole number of cents that is not less."""
        cent = _UNIT // 100
        return Usdc(-(-int(self) // cent) * cent)

    @property
    def usd(self) -> str:
        """Decimal dollars as text, at least two decimals: `"0.69"`, `"0.0023"`."""
        sign = "-" if self < 0 else ""
        whole, part = divmod(abs(int(self)), _UNIT)
        digits = f"{part:06d}".rstrip("0").ljust(2, "0")
        return f"{sign}{whole}.{digits}"

    def __add__(self, other: int) -> Usdc:
        return Usdc(int(self) + _whole(other))

    def __sub__(self, other: int) -> Usdc:
        return Usdc(int(self) - _whole(other))

    def __neg__(self) -> Usdc:
        return Usdc(-int(self))

    __radd__ = __add__

    def __str__(self) -> str:
        return f"${self.usd}"

    def __repr__(self) -> str:
        return f"Usdc({int(self)})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def _whole(other: int) -> int:
    if not isinstance(other, int) or isinstance(other, bool):
        raise TypeError("money only meets integers of atomic units")
    return int(other)


def _scaled(usd: Decimal, rounding: str) -> int:
    if not isinstance(usd, Decimal) or not usd.is_finite() or usd.adjusted() > _DIGITS_MAX:
        raise ValueError("a USD figure must be a finite decimal of sane size")
    return int(_EXACT.multiply(usd, Decimal(_UNIT)).to_integral_value(rounding=rounding))


ZERO: Final = Usdc(0)
CENT: Final = Usdc(_UNIT // 100)
