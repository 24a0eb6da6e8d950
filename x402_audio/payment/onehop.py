"""Headers that travel exactly one hop: sent by the transport, absent from everything else.

httpx copies request headers when it follows a redirect and drops only `Authorization` across origins. A secret put
here is in `raw`, which the transport sends, but in no item, repr or copy; so a redirected request goes without it,
and `response.request` and `response.history` never show it. Knows nothing of what the secret is.
"""

from __future__ import annotations

import httpx

from x402_audio.secret import Secret


class OneHopHeaders(httpx.Headers):
    """Ordinary headers plus secrets that only `raw` gives out."""

    def __init__(self, headers: httpx.Headers, secrets: dict[str, Secret]) -> None:
        super().__init__(headers)
        self._secrets = secrets

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        hidden = [
            (name.encode("ascii"), secret.reveal().encode("ascii")) for name, secret in self._secrets.items()
        ]
        return [*super().raw, *hidden]


def attach(request: httpx.Request, secrets: dict[str, Secret]) -> None:
    """Give a request its secrets for one hop, replacing those of an earlier attempt."""
    request.headers = OneHopHeaders(request.headers, secrets)


def detach(request: httpx.Request) -> bool:
    """Take the secrets off again; says whether there were any."""
    carried = isinstance(request.headers, OneHopHeaders)
    if carried:
        request.headers = httpx.Headers(request.headers)
    return carried
