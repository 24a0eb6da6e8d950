"""An old copy of the books put back in their place: what was bought since is not bought again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jobs.stage import QUOTE, Shopper, Stage, open_stage, usd
from x402_audio.errors import Frozen, InsufficientBalance, SignInRejected
from x402_audio.money import ZERO
from x402_audio.sandbox import FaultRule


@contextmanager
def bought_since(
    folder: Path, *, mode: str, job: str = "J", rpc: bool = True
) -> Iterator[tuple[Stage, Shopper]]:
    """A job was stored, a backup made, the job bought, and the backup restored."""
    with open_stage(folder, mode=mode, credit=usd("20") if mode == "venice" else ZERO) as shop:
        first = shop.shopper(RPC_URL=shop.server.rpc_url)
        first.submit(job_id=job)
        copy = folder / "copy.db"
        first.client.ledger.backup(str(copy))
        first.resume(job)
        first.close()
        restore(copy, first)
        shop.clock.wait(300)
        yield shop, shop.shopper(RPC_URL=shop.server.rpc_url)


def restore(copy: Path, shopper: Shopper) -> None:
    ledger = Path(shopper.client.settings.ledger)
    os.unlink(ledger)
    shutil.copy(copy, ledger)
    os.chmod(ledger, 0o600)


@pytest.mark.parametrize("mode", ["venice", "direct-v2"])
def test_a_stored_job_is_not_bought_again(tmp_path: Path, mode: str) -> None:
    with bought_since(tmp_path, mode=mode) as (shop, shopper):
        for _ in range(2):
            with pytest.raises(Frozen, match="restored from a backup"):
                shopper.resume("J")
        assert len(shop.jobs) == 1
        kind = "unknown charge" if mode == "venice" else "chain more"
        report = shopper.reconcile()
        assert [(one.kind, one.amount) for one in report.differences] == [(kind, QUOTE)]
        assert (report.brake, "J" in str(report.frozen)) == ("kept", True)
        with pytest.raises(Frozen):
            shopper.resume("J")
        assert len(shop.jobs) == 1
        shopper.play(shopper.verbs.cancel("J"))
        assert shopper.reconcile().brake == "lifted"
        assert shopper.generate("another song", job_id="K").completed


def test_reconcile_first_stops_it_as_well(tmp_path: Path) -> None:
    with bought_since(tmp_path, mode="direct-v1") as (shop, shopper):
        assert shopper.reconcile().brake == "frozen"
        with pytest.raises(Frozen):
            shopper.resume("J")
        shopper.client.ledger.unfreeze("the owner, on a terminal")
        assert shopper.reconcile().brake == "", "the owner has seen it; it is not stopped again"
        assert shopper.resume("J").completed
        assert len(shop.jobs) == 2


def test_a_top_up_in_between_does_not_hide_the_charge(tmp_path: Path) -> None:
    with bought_since(tmp_path, mode="venice") as (shop, shopper):
        shop.credit("7")
        with pytest.raises(Frozen):
            shopper.resume("J")
        assert len(shop.jobs) == 1


def test_a_new_job_of_restored_books_is_stopped_by_the_fall_of_the_wallet(tmp_path: Path) -> None:
    with open_stage(tmp_path, mode="direct-v1") as shop:
        first = shop.shopper(RPC_URL=shop.server.rpc_url)
        first.generate("a song called a", job_id="a")
        copy = tmp_path / "copy.db"
        first.client.ledger.backup(str(copy))
        shop.clock.wait(1000)
        first.generate("a song called b", job_id="b")
        first.close()
        restore(copy, first)
        (tmp_path / "here" / "b.mp3").unlink(missing_ok=True)
        shop.clock.wait(1000)
        shopper = shop.shopper(RPC_URL=shop.server.rpc_url)
        with pytest.raises(Frozen, match="chain more"):
            shopper.generate("a song called b", job_id="b", force=True)
        assert len(shop.jobs) == 2


def test_a_new_job_of_restored_books_is_stopped_by_the_fall_of_the_credit(tmp_path: Path) -> None:
    with open_stage(tmp_path, credit=usd("20")) as shop:
        first = shop.shopper()
        first.generate("a song called a", job_id="a")
        copy = tmp_path / "copy.db"
        first.client.ledger.backup(str(copy))
        shop.clock.wait(1000)
        first.generate("a song called b", job_id="b")
        first.close()
        restore(copy, first)
        shop.clock.wait(1000)
        shopper = shop.shopper()
        with pytest.raises(InsufficientBalance, match="fell by"):
            shopper.generate("a song called b", job_id="b", force=True)
        assert len(shop.jobs) == 2


def test_an_attempt_that_failed_before_the_copy_does_not_hide_the_charge(tmp_path: Path) -> None:
    """The copy holds a void draw of the job, and the lost books topped up after they bought it."""
    with open_stage(tmp_path, credit=usd("20")) as shop:
        first = shop.shopper()
        shop.faults(FaultRule("status", "/audio/queue", every=True, value=403))
        with pytest.raises(SignInRejected):
            first.generate(job_id="J")
        assert [hold.state for hold in first.holds("J")] == ["void"]
        shop.faults()
        copy = tmp_path / "copy.db"
        first.client.ledger.backup(str(copy))
        first.resume("J")
        first.close()
        restore(copy, first)
        shop.clock.wait(300)
        shop.credit("7")
        with pytest.raises(Frozen, match="restored from a backup"):
            shop.shopper().resume("J")
        assert len(shop.jobs) == 1


def test_what_was_no_matter_for_one_job_is_looked_at_again_for_the_next(tmp_path: Path) -> None:
    """The charge is too dear to be the first job's; within the same minute it stops the one it may be."""
    with open_stage(tmp_path, credit=usd("20")) as shop:
        first = shop.shopper(MAX_PER_PAYMENT="5", MAX_PER_JOB="5")
        first.submit("the dear song", job_id="dear", duration_seconds=200)
        first.submit("the cheap song", job_id="cheap")
        copy = tmp_path / "copy.db"
        first.client.ledger.backup(str(copy))
        first.resume("dear")
        first.close()
        restore(copy, first)
        shop.clock.wait(300)
        shop.credit("7")
        again = shop.shopper(MAX_PER_PAYMENT="5", MAX_PER_JOB="5")
        again.resume("cheap")
        with pytest.raises(Frozen, match="restored from a backup"):
            again.resume("dear")
        assert len(shop.jobs) == 2


def test_a_younger_job_s_look_does_not_stand_for_an_older_one(tmp_path: Path) -> None:
    """Nothing strange since the younger one was stored says nothing of what came before."""
    with open_stage(tmp_path, credit=usd("20")) as shop:
        first = shop.shopper()
        first.submit("the older song", job_id="older")
        copy = tmp_path / "copy.db"
        first.client.ledger.backup(str(copy))
        first.resume("older")
        first.close()
        restore(copy, first)
        shop.credit("7")
        again = shop.shopper()
        shop.clock.wait(900)
        again.submit("the younger song", job_id="younger")
        shop.clock.wait(100)
        again.resume("younger")
        with pytest.raises(Frozen, match="restored from a backup"):
            again.resume("older")
        assert len(shop.jobs) == 2
