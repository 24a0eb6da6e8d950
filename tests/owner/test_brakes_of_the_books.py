"""What stops a seller by itself, seen from the command line: three losses in a row, and taking more than was agreed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import BUY, CommandLine, Shop
from tests.owner.screen import Owner
from x402_audio.sandbox import FaultRule

OpenShop = Callable[..., Shop]


@pytest.fixture
def shop(open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Credit for many jobs, and room for them."""
    for name in ("HOUR", "DAY"):
        monkeypatch.setenv(f"X402_AUDIO_MAX_PER_{name}", "9")
    monkeypatch.setenv("X402_AUDIO_MAX_TOP_UP", "9")
    return open_shop("venice", job_seconds=0.02)


def buy(cli: CommandLine, name: str) -> Any:
    return cli(*BUY, "--job-id", name, "--output", f"{name}.mp3")


def stopped(cli: CommandLine) -> list[dict[str, str]]:
    found: list[dict[str, str]] = cli("budget", "--json").json["result"]["stopped"]
    return found


def test_three_jobs_in_a_row_charged_and_not_delivered_stop_the_seller_until_its_owner_lifts_that(
    shop: Shop, cli: CommandLine, owner: Owner
) -> None:
    shop.seller.faults.replace([FaultRule("expire_media", every=True)])
    said = [buy(cli, name) for name in ("a", "b", "c")]
    assert [one.code for one in said] == [9, 9, 9]
    assert [one.err.count(f"{shop.server.origin} is stopped") for one in said] == [0, 0, 1]
    assert "3 jobs in a row were charged and not delivered (a, b, c)" in said[2].err
    shop.seller.faults.replace([])
    refused = buy(cli, "d")
    assert refused.code == 3 and "money moved: no" in refused.err
    assert len(shop.seller.jobs) == 3
    (row,) = stopped(cli)
    assert (row["origin"], row["what"]) == (shop.server.origin, "seller")

    assert cli("reconcile").code == 0
    assert cli("unfreeze", shop.server.origin, "--yes").code == 3
    assert stopped(cli) == [row], "neither reconcile nor a flag lifts it"
    lifted = owner.type(("unfreeze", shop.server.origin), ("type lift to confirm", "lift"))
    assert lifted.code == 0, lifted.err
    assert cli("resume", "d", "--poll-interval", "0.05").code == 0
    assert stopped(cli) == []


def test_an_overcharge_is_named_counts_everywhere_and_stops_the_seller(shop: Shop, cli: CommandLine) -> None:
    def spent() -> dict[str, str]:
        limits = cli("budget", "--json").json["result"]["limits"]
        return {one["window"]: one["spent_usd"] for one in limits if one["purse"] == "jobs"}

    above = ("budget", "set", "--purse", "jobs", "--window", "ever", "--amount", "20", "--scope")
    scopes = (f"origin:{shop.server.origin}", "model:elevenlabs-music")
    for scope in scopes:
        assert cli(*above, scope).code == 0
    shop.seller.faults.replace([FaultRule("overcharge", value="0.40")])
    assert buy(cli, "a").code == 0
    assert {spent()[window] for window in ("hour", "day", "month", "ever")} == {"0.69"}
    found = cli("reconcile", "--json").json["result"]
    (difference,) = found["differences"]
    assert (difference["kind"], difference["amount_usd"]) == ("overcharge", "0.40")
    assert any("took $0.40 more than it may" in one for one in found["warnings"])
    assert {spent()[window] for window in ("hour", "day", "month", "ever")} == {"1.09"}
    for scope in scopes:
        limits = cli("budget", "--json").json["result"]["limits"]
        assert [one["spent_usd"] for one in limits if one["scope"] == scope] == ["1.09"]
    assert buy(cli, "b").code == 3
    assert [one["what"] for one in stopped(cli)] == ["seller"]
    assert len(shop.seller.jobs) == 1
    (draw,) = cli("ledger", "export", "--json").json["result"]["draws"]
    assert (draw["amount_usd"], draw["overcharged_usd"]) == ("0.69", "0.40")
    assert cli("ledger", "verify").code == 0
