"""What npm's packages deal with and what they are: our practice seller as a command, scripts that buy, shops that sell.

Each runs in a process of its own; the seller's own books, and the chain, are what the tests believe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.interop.peers import Peer, node_script
from tests.interop.shelf import sound
from x402_audio.protocol.signer import LocalSigner

PAY_TO: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
"""The payee of the npm shops: a published test address."""
SHOP_PRICE: Final = 250_000
ONE_OBJECT: Final = r"^(\{.*\})$"


def run_script(script: str, folder: Path, *words: str) -> dict[str, Any]:
    """What a script of `tests/interop/node` says: one JSON object."""
    with Peer([*node_script(script), *words], folder, ready=ONE_OBJECT) as running:
        told: dict[str, Any] = json.loads(running.said[0])
        return told


@dataclass(frozen=True, slots=True)
class PracticeSeller:
    """A running `x402-audio sandbox`: where it listens, the key of the wallet it made, and its owner's door."""

    api_url: str
    key: str

    @property
    def origin(self) -> str:
        return self.api_url.removesuffix("/api/v1")

    @property
    def wallet(self) -> str:
        """In lower case, as the books write it."""
        return LocalSigner.from_hex(self.key).address.lower()

    def books(self) -> dict[str, Any]:
        """The seller's own books."""
        found: dict[str, Any] = httpx.get(
            self.origin + "/sandbox/books", trust_env=False, verify=False
        ).json()
        return found

    def faults(self, *rules: dict[str, object]) -> None:
        """What goes wrong from now on."""
        answer = httpx.post(
            self.origin + "/sandbox/faults", json={"rules": list(rules)}, trust_env=False, verify=False
        )
        assert answer.status_code == 200, answer.text


@contextmanager
def practice_seller(folder: Path, mode: str, *, job_seconds: float = 0.3) -> Iterator[PracticeSeller]:
    """`x402-audio sandbox` as people start it; its state goes into `folder`."""
    state = folder / f"sandbox-{mode}"
    words = ["sandbox", "--json", "--mode", mode, "--job-seconds", str(job_seconds), "--state", str(state)]
    with Peer([sys.executable, "-m", "x402_audio", *words], folder, ready=ONE_OBJECT) as running:
        told = json.loads(running.said[0])
        yield PracticeSeller(told["result"]["api_url"], (state / "key").read_text().strip())


@dataclass(frozen=True, slots=True)
class NpmShop:
    """A running audio shop of npm's Express middlewares."""

    url: str

    def api_url(self, version: str, facilitator: str) -> str:
        """version: v1 or v2. facilitator: its URL on this machine."""
        return f"{self.url}/{version}/{facilitator.rpartition(':')[2]}/api/v1"

    def jobs(self, api_url: str) -> list[dict[str, Any]]:
        """Jobs begun for one API URL, paid or not."""
        found: list[dict[str, Any]] = httpx.get(self.url + "/jobs", trust_env=False, verify=False).json()
        return [job for job in found if (self.url + job["path"]).startswith(api_url + "/")]


@contextmanager
def npm_shop(folder: Path, *, timeout_ms: int = 20_000) -> Iterator[NpmShop]:
    """The shop; `timeout_ms` is how long it waits for its facilitator."""
    file = folder / "track.wav"
    file.write_bytes(sound(3))
    with Peer(
        node_script("shop.mjs"), folder, PAY_TO=PAY_TO, PRICE=f"${SHOP_PRICE / 1_000_000}", SOUND=str(file),
        TIMEOUT_MS=str(timeout_ms),
    ) as running:  # fmt: skip
        yield NpmShop(running.url)
