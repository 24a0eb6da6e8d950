"""Batteries of other people's making judge us: `hostile-facilitator` our client, `x402-conformance` our practice seller.

What they found is told whether or not the test passes, so that a run shows the verdicts and not only a dot.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.interop.neighbours import (
    ONE_OBJECT,
    SHOP_PRICE,
    NpmShop,
    PracticeSeller,
    npm_shop,
    practice_seller,
)
from tests.interop.one_purchase import FACES, Customer, Doorbell, Outcome
from tests.interop.peers import Peer, peer, python_module

JUDGED = tuple(product(FACES, ("v1", "v2")))
MODES = (
    "accept_then_timeout", "5xx_after_settle", "double_402", "slow_answer", "reconcile_unavailable",
    "reconcile_soft_404", "reconcile_oversized", "reconcile_truncated", "declared_safe", "clean",
)  # fmt: skip
"""Every mode hostile-facilitator 0.2.2 has."""
HARMLESS = ("declared_safe", "clean")
TIMEOUT_S = 2


# --- hostile-facilitator: the facilitator settles, and then misbehaves
@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the battery wrote of one version, what it printed, and what our client told of each mode."""

    document: dict[str, Any]
    printed: str
    outcomes: dict[str, Outcome]

    def row(self, mode: str) -> dict[str, Any]:
        found: dict[str, Any] = next(row for row in self.document["results"] if row["mode"] == mode)
        return found


Judged = dict[tuple[str, str], Verdicts]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Both faces of our client and both versions go through the battery at the same time."""
    home = tmp_path_factory.mktemp("hostile")
    with npm_shop(home, timeout_ms=TIMEOUT_S * 1000) as shop, ThreadPoolExecutor() as pool:
        running = {
            (face, version): pool.submit(_judge, shop, version, face, home / f"{face} {version}")
            for face, version in JUDGED
        }
        return {what: verdicts.result() for what, verdicts in running.items()}


def _judge(shop: NpmShop, version: str, face: str, folder: Path) -> Verdicts:
    """The battery's own command; it drives its control first and the other modes in its own order."""
    folder.mkdir(mode=0o700)
    with Doorbell(Customer(shop, version, face, folder)) as bell:
        command = [
            str(peer("python/bin/hostile-facilitator")), "test", "--client-timeout", str(TIMEOUT_S),
            "--json", str(folder / "result.json"), "--", *bell.command,
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        document = json.loads((folder / "result.json").read_text())
        driven = ["clean", *(mode for mode in document["battery"]["modes"] if mode != "clean")]
        return Verdicts(document, ended.stdout, dict(zip(driven, bell.outcomes, strict=False)))


def test_the_hostile_facilitator_finds_our_client_safe_in_every_mode_it_has(
    hostile: Judged, tell: Callable[[str], None]
) -> None:
    for (face, version), verdicts in hostile.items():
        summary = verdicts.document["summary"]
        score = f"{summary['safe']}/{summary['total']} {summary['verdict']}"
        tell(f"hostile-facilitator, {face}, {version}: {score}")
        for mode, outcome in verdicts.outcomes.items():
            tell(f"  {mode:<22} {verdicts.row(mode)['verdict']:<5} {outcome.in_words}")
    for verdicts in hostile.values():
        assert [outcome.crash for outcome in verdicts.outcomes.values()] == [""] * len(MODES)
        assert set(verdicts.outcomes) == set(MODES)
        assert verdicts.document["summary"]["verdict"] == "PASS", verdicts.printed
        assert {row["mode"]: row["distinct"] for row in verdicts.document["results"]} == dict.fromkeys(
            MODES, 1
        )


@pytest.mark.parametrize(("face", "version"), JUDGED)
@pytest.mark.parametrize("mode", MODES)
def test_after_every_hostile_mode_the_books_are_what_was_signed_and_it_is_delivered(
    hostile: Judged, face: str, version: str, mode: str
) -> None:
    """One signature, one hold of its amount, nothing beyond the price at risk, and the same bytes bought the track."""
    outcome = hostile[face, version].outcomes[mode]
    (signed,) = outcome.signed
    (hold,) = outcome.holds
    assert (hold.nonce, hold.amount) == ("0x" + signed.nonce.hex(), signed.value)
    assert (hold.state, hold.amount) == ("settled", SHOP_PRICE)
    assert outcome.unsound == []
    assert (outcome.second or outcome.first) == "delivered"


@pytest.mark.parametrize(("face", "version"), JUDGED)
@pytest.mark.parametrize("mode", MODES)
def test_a_hostile_answer_is_unknown_and_a_witness_that_cannot_be_read_frees_nothing(
    hostile: Judged, face: str, version: str, mode: str
) -> None:
    outcome = hostile[face, version].outcomes[mode]
    if outcome.first == "delivered":
        assert (outcome.asked, outcome.second, outcome.holds[0].sends <= 2) == (None, "", True)
        return
    assert mode not in HARMLESS
    assert (outcome.first, outcome.holds[0].sends) == ("PaymentRejected 8", 2)
    assert outcome.asked is not None
    assert outcome.asked.settled + outcome.asked.voided + outcome.asked.presumed == ()
    assert outcome.asked.unread
    assert all("could not be read" in why for why in outcome.asked.unread)


def test_the_hostile_facilitator_can_tell_a_broken_client_from_a_sound_one() -> None:
    """Its own control: without it a row of passes would mean nothing."""
    command = [str(peer("python/bin/hostile-facilitator")), "selftest"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "instrument valid: True" in ended.stdout) == (0, True)


# --- x402-conformance: what a 402 must look like
NOT_OURS = {
    "S": "about a facilitator's /supported; the practice seller is none, it settles for itself",
    "F": "about a facilitator's /verify and /settle; offline they run against the battery's own doubles only",
    "R": "wants a seller that asks a facilitator of the battery's; ours settles for itself, and the probe is not on PyPI",
    "C": "functions of the battery's npm package, which is not on PyPI",
}
"""Why the checks with other letters than P do not apply here, offline."""
ORDER = json.dumps({"model": "elevenlabs-music", "prompt": "Warm indie folk, 120 BPM", "duration_seconds": 3})
BOTH_VERSIONS = ["P1", "P2", "P3", "P4", "P5"]
VERSION_2_ONLY = ["P6", "P7"]


@pytest.fixture(scope="module")
def sellers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PracticeSeller]]:
    home = tmp_path_factory.mktemp("conformance")
    with practice_seller(home, "direct-v1") as v1, practice_seller(home, "direct-v2") as v2:
        yield {"v1": v1, "v2": v2}


def _asked_by_get(sellers: dict[str, PracticeSeller]) -> dict[str, Any]:
    """The battery's command on the route that can be asked by GET."""
    urls = [f"{seller.api_url}/stream" for seller in sellers.values()]
    command = [str(peer("python/bin/x402conf")), "resource", *urls, "--fail-on-error"]
    env = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return {**told, "exit": ended.returncode}


def _asked_by_post(sellers: dict[str, PracticeSeller], home: Path) -> dict[str, Any]:
    """The same checks on the route that sells tracks."""
    urls = [f"{seller.api_url}/audio/queue" for seller in sellers.values()]
    with Peer([*python_module("post_checks"), ORDER, *urls], home, ready=ONE_OBJECT) as running:
        told: dict[str, Any] = json.loads(running.said[0])
        return told


def _found(told: dict[str, Any]) -> dict[str, dict[str, bool]]:
    """Check by check, URL by URL, whether it passed."""
    return {
        run["target"]: {check["check"].split()[0]: check["pass"] for check in run["checks"]}
        for run in told["results"]
    }


def test_the_conformance_battery_passes_our_sellers_demands_on_every_check_that_applies(
    sellers: dict[str, PracticeSeller], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    by_get, by_post = _asked_by_get(sellers), _asked_by_post(sellers, tmp_path)
    found = {**_found(by_get), **_found(by_post)}
    tell("x402-conformance:")
    for url, checks in found.items():
        passed = " ".join(f"{check} {'pass' if good else 'FAIL'}" for check, good in checks.items())
        tell(f"  {url.partition('/api/v1')[2]:<13} {passed}")
    for letter, why in NOT_OURS.items():
        named = [check for check in by_post["checks"] if check.startswith(letter)]
        tell(f"  {len(named)} checks {letter}* do not apply: {why}")
    for version, seller in sellers.items():
        expected = BOTH_VERSIONS + (VERSION_2_ONLY if version == "v2" else [])
        for route in ("/stream", "/audio/queue"):
            assert found[seller.api_url + route] == dict.fromkeys(expected, True)
    assert by_get["exit"] == 0
    assert {check[0] for check in by_post["checks"]} == {"P", *NOT_OURS}


def test_the_conformance_battery_sees_a_demand_that_is_wrong(sellers: dict[str, PracticeSeller]) -> None:
    """Its own control: it goes red over terms we spoil, one after the other."""
    wrong: list[object] = [{"extra": {"name": None}}, {"maxTimeoutSeconds": "300"}, {"payTo": None}]
    seen = []
    for patch in wrong:
        for seller in sellers.values():
            seller.faults({"action": "wrong_terms", "every": True, "value": patch})
        told = _asked_by_get(sellers)
        assert told["exit"] == 1
        seen += [[check for check, good in checks.items() if not good] for checks in _found(told).values()]
    for seller in sellers.values():
        seller.faults()
    assert seen == [["P5"], ["P5"], ["P4"], ["P4"], ["P4"], ["P4"]]
