"""Reads a 402 into one type, whatever its version: the header first, then the body (x402 v1 and v2).

    v1: body, `maxAmountRequired`, short network names     v2: header `PAYMENT-REQUIRED`, `amount`, CAIP-2 networks

What is read here is a stranger's wish. One malformed entry is set aside with a reason; an envelope that cannot be
read, or two that contradict each other, is a ProtocolError. Knows no budget, no payee list, no key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Final, Literal

from x402_audio.errors import ProtocolError
from x402_audio.jsontext import BODY_BYTES_MAX, Json, read_json
from x402_audio.money import UINT256_MAX, Usdc
from x402_audio.protocol import base64text
from x402_audio.protocol.address import ZERO_ADDRESS, checksum_address, same_address
from x402_audio.protocol.echo import echo_json
from x402_audio.protocol.networks import Network, network_named

ACCEPTS_MAX: Final = 16
SELLER_TEXT_MAX: Final = 120
_HEADERS: Final = ("payment-required", "x-payment-required")
_EIP155: Final = re.compile(r"eip155:[1-9][0-9]{0,31}", re.ASCII)
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_-])(?!(?:[a-z]{1,20}[0-9]{0,4}_)+[a-z]{1,20}[0-9]{0,4}(?![A-Za-z0-9+/=_-]))[A-Za-z0-9+/=_-]{44,}",
    re.ASCII,
)
"""A run as long as a key; an error word of the standard, small words joined by `_`, may be longer."""
_VERSIONS: Final[Mapping[object, Literal[1, 2]]] = {1: 1, "1": 1, 2: 2, "2": 2}

Source = Literal["header", "body"]


@dataclass(frozen=True, slots=True)
class PaymentRequirements:
    """One well-formed entry of `accepts`. `offered` is the entry exactly as received, for the echo.

    amount: atomic units. network, asset, pay_to: as offered, neither normalised nor checked against our table.
    """

    scheme: str
    network: str
    amount: Usdc
    asset: str
    pay_to: str
    max_timeout_seconds: int
    resource: str | None
    extra: Mapping[str, Json]
    offered: Mapping[str, Json]
    index: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the entry at `index` of `accepts` is not paid: one word for programs, one line for people."""

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class PaymentRequired:
    """A 402, read. `rejections` are the entries set aside as malformed or on chains that are not EVM."""

    version: Literal[1, 2]
    requirements: tuple[PaymentRequirements, ...]
    rejections: tuple[Rejection, ...]
    resource: Mapping[str, Json] | None
    extensions: Mapping[str, Json] | None
    error: str | None
    source: Source


def printable(text: object, most: int = SELLER_TEXT_MAX) -> str:
    """A seller's text, fit to be shown: printable characters only, cut to `most`.

    Runs as long as a signature, key or token are masked: a seller may echo what we sent it.
    """
    line = str(text)[: 4 * most]
    if not line.isprintable():
        line = "".join(c for c in line if c.isprintable())
    return _TOKEN.sub("[...]", line)[:most]


def read_payment_required(headers: Mapping[str, str], body: bytes) -> PaymentRequired:
    """Read the terms of a 402. Raises ProtocolError when there are none, or they are unreadable or contradictory."""
    found = list(_terms(headers, body))
    if not found:
        raise ProtocolError(
            "the 402 carries no terms that can be read, neither in its headers nor in its body"
        )
    source, terms = found[0]
    for other_source, other in found[1:]:
        if _summary(other) != _summary(terms):
            raise ProtocolError(
                f"the 402's {source} and {other_source} name different payees, assets, amounts or networks"
            )
    version = _version(terms)
    requirements: list[PaymentRequirements] = []
    rejections: list[Rejection] = []
    for index, entry in enumerate(_entries(terms)):
        read = _read_entry(entry, index, version)
        if isinstance(read, Rejection):
            rejections.append(read)
        else:
            requirements.append(read)
    error = terms.get("error")
    return PaymentRequired(
        version=version,
        requirements=tuple(requirements),
        rejections=tuple(rejections),
        resource=_member(terms, "resource") if version == 2 else None,
        extensions=_member(terms, "extensions") if version == 2 else None,
        error=printable(error) if isinstance(error, str) else None,
        source=source,
    )


def supported(requirement: PaymentRequirements, network: Network) -> Rejection | None:
    """Why this entry is not `exact` USDC by EIP-3009 on our network; None when it is. Our table decides, not `extra`."""
    extra = requirement.extra
    if requirement.scheme != "exact":
        return _rejection(
            requirement, "scheme", f"scheme {printable(requirement.scheme)}, only exact is paid"
        )
    if network_named(requirement.network) != network:
        return _rejection(
            requirement, "network", f"network {printable(requirement.network)} is not {network.caip2}"
        )
    if not same_address(requirement.asset, network.usdc):
        return _rejection(
            requirement, "asset", f"asset {printable(requirement.asset)} is not USDC on {network.v1_name}"
        )
    if extra.get("name", network.domain_name) != network.domain_name:
        return _rejection(requirement, "domain", f"extra.name is not {network.domain_name}")
    if extra.get("version", network.domain_version) != network.domain_version:
        return _rejection(requirement, "domain", f"extra.version is not {network.domain_version}")
    if extra.get("assetTransferMethod", "eip3009") != "eip3009":
        return _rejection(requirement, "transfer_method", "extra.assetTransferMethod is not eip3009")
    if not 0 < requirement.amount <= UINT256_MAX:
        return _rejection(requirement, "amount", "the amount does not fit uint256")
    problem = _payee_problem(requirement.pay_to)
    return _rejection(requirement, "payee", problem) if problem else None


def _rejection(requirement: PaymentRequirements, reason: str, detail: str) -> Rejection:
    return Rejection(requirement.index, reason, detail)


# --- the envelope
def _terms(headers: Mapping[str, str], body: bytes) -> Iterator[tuple[Source, dict[str, Json]]]:
    """Every place that carries `accepts`, best first."""
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        if lowered.setdefault(name.lower(), value) != value and name.lower() in _HEADERS:
            raise ProtocolError(f"the 402 carries two different {name.lower()} headers")
    for name in _HEADERS:
        if name in lowered and (terms := _decoded(lowered[name])) is not None:
            yield "header", terms
    if body and (terms := _object_with_accepts("body", body)) is not None:
        yield "body", terms


def _decoded(value: str) -> dict[str, Json] | None:
    if len(value) > base64text.HEADER_CHARS_MAX:
        raise ProtocolError(f"the 402's terms header is longer than {base64text.HEADER_CHARS_MAX} characters")
    try:
        text = base64text.decode(value)
    except ValueError:
        return None
    return _object_with_accepts("header", text)


def _object_with_accepts(source: Source, text: bytes) -> dict[str, Json] | None:
    """What is not JSON carries no terms; JSON past our bounds or with a key twice could be read two ways: refused."""
    try:
        value = read_json(text, bytes_max=BODY_BYTES_MAX)
    except (JSONDecodeError, UnicodeDecodeError):
        return None
    except ValueError as error:
        raise ProtocolError(f"the 402's {source} is refused: {printable(error)}") from None
    if not isinstance(value, dict) or "accepts" not in value:
        return None
    if b"\\u" in text:  # only so written can half a character come
        try:
            echo_json(value).encode("utf-8")
        except UnicodeEncodeError:
            raise ProtocolError(f"the 402's {source} holds text that has no UTF-8 form") from None
    return value


def _version(terms: Mapping[str, Json]) -> Literal[1, 2]:
    stated = terms.get("x402Version")
    version = _VERSIONS.get(stated) if type(stated) in (int, str) else None
    if version is None:
        raise ProtocolError(f"the 402 is of no x402 version we speak: {printable(stated)}")
    return version


def _entries(terms: Mapping[str, Json]) -> list[Json]:
    entries = terms["accepts"]
    if not isinstance(entries, list):
        raise ProtocolError("the 402's accepts is not a list")
    if len(entries) > ACCEPTS_MAX:
        raise ProtocolError(f"the 402 offers {len(entries)} ways to pay, at most {ACCEPTS_MAX} are read")
    return entries


def _member(terms: Mapping[str, Json], name: str) -> Mapping[str, Json] | None:
    value = terms.get(name)
    if value is not None and not isinstance(value, dict):
        raise ProtocolError(f"the 402's {name} is not an object, so it cannot be echoed")
    return value


def _summary(terms: Mapping[str, Json]) -> frozenset[tuple[str, ...]]:
    """Network, asset, payee and amount of every `exact` entry on a network of ours, in one spelling.

    Other networks are left out: they are never paid, and have names without one spelling (`solana`).
    """
    found = set()
    for entry in _entries(terms):
        if isinstance(entry, dict) and entry.get("scheme") == "exact":
            network = network_named(str(entry.get("network")))
            if network is not None:
                amounts = [entry[name] for name in ("amount", "maxAmountRequired") if name in entry]
                said = (entry.get("asset"), entry.get("payTo"), *amounts)
                found.add((network.caip2, *(repr(value).lower() for value in said)))
    return frozenset(found)


# --- one entry
def _read_entry(entry: Json, index: int, version: Literal[1, 2]) -> PaymentRequirements | Rejection:
    if not isinstance(entry, dict):
        return Rejection(index, "form", "the entry is not an object")
    scheme, network = entry.get("scheme"), entry.get("network")
    if not isinstance(scheme, str) or not isinstance(network, str):
        return Rejection(index, "form", "scheme and network are not both text")
    if network_named(network) is None and not _EIP155.fullmatch(network):
        return Rejection(index, "network", f"network {printable(network)} is none we know")
    named, foreign = ("maxAmountRequired", "amount") if version == 1 else ("amount", "maxAmountRequired")
    if foreign in entry:
        return Rejection(index, "form", f"{foreign} has no place in an entry of version {version}")
    amount, asset, pay_to = entry.get(named), entry.get("asset"), entry.get("payTo")
    try:
        value = Usdc.from_atomic(amount) if isinstance(amount, str) else None
    except ValueError:
        value = None
    if value is None:
        return Rejection(index, "amount", f"{named} is not a string of digits 1 to 2^256-1")
    if not isinstance(asset, str):
        return Rejection(index, "asset", "asset is not text")
    problem = _payee_problem(pay_to)
    if problem or not isinstance(pay_to, str):
        return Rejection(index, "payee", problem or "payTo is not text")
    seconds = entry.get("maxTimeoutSeconds")
    if type(seconds) is not int or seconds <= 0:
        return Rejection(index, "timeout", "maxTimeoutSeconds is not a positive whole number")
    extra, resource = entry.get("extra"), entry.get("resource")
    if extra is not None and not isinstance(extra, dict):
        return Rejection(index, "form", "extra is not an object")
    return PaymentRequirements(
        scheme=scheme,
        network=network,
        amount=value,
        asset=asset,
        pay_to=pay_to,
        max_timeout_seconds=seconds,
        resource=resource if isinstance(resource, str) else None,
        extra=extra or {},
        offered=entry,
        index=index,
    )


def _payee_problem(pay_to: Json) -> str | None:
    if not isinstance(pay_to, str):
        return "payTo is not text"
    try:
        checksum_address(pay_to)
    except ValueError as error:
        return f"payTo: {error}"
    return "payTo is the zero address" if pay_to.lower() == ZERO_ADDRESS else None
