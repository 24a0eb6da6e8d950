"""How a seller is named by its URL, and which hosts are this very machine. Knows no terms and no rules."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

import httpx


def origin_of(url: httpx.URL) -> str:
    """`scheme://host[:port]`, as pins and readings are kept under."""
    host = url.raw_host.decode("ascii")  # one spelling of an international name
    host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port is not None else "")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Literal 127.0.0.0/8 or ::1; a name never counts."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None
