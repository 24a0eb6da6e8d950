"""Who is paid is changed by the owner at a terminal; flag, setting, file and the seller itself can only narrow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import BUY, CommandLine, Ended, Shop
from tests.owner.screen import Owner
from x402_audio.sandbox import FaultRule

OpenShop = Callable[..., Shop]
OTHER = "0x1111111111111111111111111111111111111111"
PIN = ("type pin to confirm", "pin")


def buy(cli: CommandLine, name: str, *more: str) -> Ended:
    return cli(*BUY, "--again", "--job-id", name, "--output", f"{name}.mp3", *more)


def rows(cli: CommandLine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("payees", "--json").json["result"]["payees"]
    return found


@pytest.fixture
def pinned(open_shop: OpenShop, cli: CommandLine) -> Shop:
    """A seller that was paid once."""
    shop = open_shop("direct-v2")
    assert buy(cli, "first").code == 0
    assert [row["state"] for row in rows(cli)] == ["pinned"]
    return shop


def test_a_seller_that_names_another_payee_is_not_paid(pinned: Shop, cli: CommandLine) -> None:
    pinned.seller.faults.replace([FaultRule("wrong_terms", every=True, value={"payTo": OTHER})])
    refused = buy(cli, "second")
    assert refused.code == 3
    assert f"x402-audio payees pin {pinned.server.origin} {OTHER}" in refused.err
    assert pinned.counted()[0] == 1


@pytest.mark.parametrize("how", ["flag", "environment", "file", "toml"])
def test_nothing_but_the_owner_changes_it(
    pinned: Shop, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    before = rows(cli)
    pinned.seller.faults.replace([FaultRule("wrong_terms", every=True, value={"payTo": OTHER})])
    if how == "environment":
        monkeypatch.setenv("X402_AUDIO_PAYEES", OTHER)
    elif how == "file":
        Path("mine").write_text(f"X402_AUDIO_PAYEES={OTHER}\n")
    elif how == "toml":
        Path("mine.toml").write_text(f'payees = "{OTHER}"\n')
    more = {
        "flag": ("--payee", OTHER),
        "environment": (),
        "file": ("--env-file", "mine"),
        "toml": ("--env-file", "mine.toml"),
    }
    for path in Path().glob("mine*"):
        path.chmod(0o600)
    refused = buy(cli, "second", *more[how], "--yes")
    assert refused.code == 3, refused.err
    assert f"x402-audio payees pin {pinned.server.origin} {OTHER}" in refused.err
    assert (rows(cli), pinned.counted()[0]) == (before, 1)


def test_a_flag_that_differs_from_the_pin_is_refused_though_the_seller_asks_for_the_pin(
    pinned: Shop, cli: CommandLine
) -> None:
    refused = buy(cli, "second", "--payee", OTHER)
    assert refused.code == 3
    assert f"{OTHER} was named as payee, but" in refused.err
    assert f"x402-audio payees pin {pinned.server.origin} {OTHER}" in refused.err
    assert buy(cli, "third", "--payee", rows(cli)[0]["address"].lower()).code == 0
    assert pinned.counted()[0] == 2


def test_the_owner_changes_it_and_any_frees_a_seller_with_an_address_per_payment(
    pinned: Shop, cli: CommandLine, owner: Owner
) -> None:
    assert owner.type(("payees", "pin", pinned.server.origin, OTHER), PIN).code == 0
    assert buy(cli, "second").code == 3, "now the old one is the stranger"
    origin = pinned.server.origin
    assert cli("payees", "allow", origin, "--any").code == 3
    assert owner.type(("payees", "allow", origin, "--any"), ("type allow to confirm", "allow")).code == 0
    assert buy(cli, "third").code == 0
    assert pinned.counted()[0] == 2
