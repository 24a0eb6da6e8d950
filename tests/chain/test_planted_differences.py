"""One planted difference of each kind, and `reconcile` as people run it names it: its kind, its amount, once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from tests.chain.ahead import AheadClock
from tests.cli.conftest import KEY
from x402_audio.cli import main
from x402_audio.money import Usdc
from x402_audio.payment.reconcile import DifferenceKind
from x402_audio.protocol.signer import LocalSigner
from x402_audio.sandbox import Limits, SandboxSeller, SandboxServer
from x402_audio.sandbox.books import Account

WALLET = LocalSigner.from_hex(KEY).address.lower()
ELSEWHERE = "0x" + "cd" * 20
TRACK = ("generate", "warm indie folk, 120 BPM", "--model", "elevenlabs-music", "--duration", "3")
PRICE, TOP_UP = Usdc(690_000), Usdc(5_000_000)
FINAL_S, EXPIRED_S = 10, 400


@dataclass(slots=True)
class Shop:
    """A seller that sold one track, the chain behind it, and the time there."""

    seller: SandboxSeller
    clock: AheadClock = field(default_factory=AheadClock)

    @property
    def account(self) -> Account:
        return self.seller.account(WALLET)

    def enter(self, kind: str, units: int) -> None:
        """A row more of the request that bought the track."""
        bought = next(row for row in self.account.rows if row.type == "CHARGE")
        self.account.enter(kind, Usdc(units), self.clock.now(), bought.request_id, bought.model_id)

    def forget(self, kind: str) -> None:
        """No row of a kind was ever written."""
        self.account.rows[:] = [row for row in self.account.rows if row.type != kind]

    def show_twice(self) -> None:
        self.account.rows.append(self.account.rows[-1])

    def lose(self, units: int) -> None:
        """Credit is gone and no row says why."""
        self.account.credit = Usdc(self.account.credit - units)

    def send_elsewhere(self, units: int) -> None:
        """USDC leaves the wallet by an authorization that these books did not make, and that becomes final."""
        self.seller.chain.transfer(WALLET, ELSEWHERE, units, "0x" + "09" * 32)
        self.clock.ahead += FINAL_S

    def never_move(self) -> None:
        """The payment was never made, and its time is over."""
        chain = self.seller.chain
        for kept in (chain.transfers, chain._used, chain._changes):
            kept.clear()
        self.clock.ahead += EXPIRED_S


PLANTED: dict[DifferenceKind, tuple[str, Callable[[Shop], None], int]] = {
    "chain more": ("direct-v2", lambda shop: shop.send_elsewhere(420_000), 420_000),
    "chain less": ("direct-v2", Shop.never_move, PRICE),
    "missing charge": ("venice", lambda shop: shop.forget("CHARGE"), PRICE),
    "missing top-up": ("venice", lambda shop: shop.forget("TOP_UP"), TOP_UP),
    "doubled charge": ("venice", lambda shop: shop.enter("CHARGE", -PRICE), PRICE),
    "doubled top-up": ("venice", lambda shop: shop.seller.credit(WALLET, TOP_UP), TOP_UP),
    "doubled row": ("venice", Shop.show_twice, PRICE),
    "unknown charge": ("venice", lambda shop: shop.seller.credit(WALLET, Usdc(-330_000)), 330_000),
    "unknown top-up": ("venice", lambda shop: shop.seller.credit(WALLET, Usdc(3_210_000)), 3_210_000),
    "refund": ("venice", lambda shop: shop.enter("REFUND", PRICE), PRICE),
    "overcharge": ("venice", lambda shop: shop.enter("CHARGE", -400_000), 400_000),
    "balance": ("venice", lambda shop: shop.lose(1_000_000), 1_000_000),
}
"""What a seller sold, what is done to it, and how much that is in atomic units."""

Sold = Callable[[str], Shop]


@pytest.fixture
def sold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sold]:
    """A seller of a mode that sold one track to the command line, for credit it bought first where it wants credit."""
    monkeypatch.setattr("x402_audio.client.time", SimpleNamespace(sleep=lambda _: time.sleep(0.02)))
    with ExitStack() as stack:

        def sell(mode: str) -> Shop:
            clock = AheadClock()
            seller = SandboxSeller(mode=mode, limits=Limits.off(), job_seconds=0.02, clock=clock)
            server = stack.enter_context(SandboxServer(seller))
            for name, value in (
                ("API_URL", server.api_url), ("RPC_URL", server.rpc_url), ("PRIVATE_KEY", KEY),
                ("MAX_PER_HOUR", "9"), ("MAX_PER_DAY", "9"), ("MAX_PER_PAYMENT", "5"), ("MAX_TOP_UP", "5"),
            ):  # fmt: skip
                monkeypatch.setenv(f"X402_AUDIO_{name}", value)
            assert main([*TRACK, "--job-id", "k", "--poll-interval", "0.05"]) == 0
            return Shop(seller, clock)

        yield sell


def test_every_kind_of_difference_is_planted_here() -> None:
    assert set(PLANTED) == set(get_args(DifferenceKind))


@pytest.mark.parametrize("mode", ["venice", "direct-v2"])
def test_where_nothing_was_planted_nothing_is_named(
    sold: Sold, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = sold(mode)
    shop.clock.ahead += FINAL_S
    capsys.readouterr()
    assert main(["reconcile"]) == 0
    assert capsys.readouterr().out.endswith("\nbooks, seller and chain agree\n")


@pytest.mark.parametrize("kind", PLANTED)
def test_the_command_names_it_by_kind_and_amount_and_nothing_else(
    sold: Sold, kind: DifferenceKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a person reads it and as a program does, from the same books."""
    mode, plant, units = PLANTED[kind]
    plant(sold(mode))
    copy = tmp_path / "copy.db"
    shutil.copy(tmp_path / "state" / "ledger.db", copy)
    capsys.readouterr()
    assert main(["reconcile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if line.startswith(tuple(f"{one}: " for one in PLANTED))]
    assert [line.partition(" (")[0] for line in named] == [f"{kind}: {Usdc(units)}"]
    assert (kind == "balance") or any(line.startswith("!") for line in lines), "and marked in the table"

    assert main(["reconcile", "--json", "--ledger", str(copy)]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    assert [(one["kind"], one["amount_atomic"]) for one in told["differences"]] == [(kind, str(int(units)))]
    assert told["unread"] == []
