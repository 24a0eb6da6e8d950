"""From the seller's bytes to a file that is safe, and what happens when they are not what was paid for."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.jobs.stage import OpenStage, usd
from x402_audio.errors import BadDownload, ConfigurationError, X402AudioError
from x402_audio.jobs.download import _open_part
from x402_audio.jsontext import Json
from x402_audio.sandbox import FaultRule, audio_routes
from x402_audio.sandbox.audio import find_queue_id, make_audio

CREDIT = usd("5")


def _only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_what_the_seller_made_and_the_seller_may_forget_it(
    stage: OpenStage, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shop = stage(credit=CREDIT)
    track = shop.shopper().generate(job_id="k", output=out / "t.mp3")
    data = (out / "t.mp3").read_bytes()
    assert find_queue_id(data) == track.queue_id == shop.jobs[0]["queue_id"]
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (track.sha256, track.bytes)
    assert track.duration_seconds == pytest.approx(3, abs=0.1)
    assert (_only(out), shop.jobs[0]["state"]) == (["t.mp3"], "completed")


def test_without_a_name_the_file_is_the_job_id_and_the_type(stage: OpenStage) -> None:
    track = stage(credit=CREDIT).shopper().generate(job_id="a/b c")
    assert Path(track.path) == Path.cwd() / "a_b_c.mp3"


def test_a_broken_stream_is_fetched_again(stage: OpenStage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shop = stage(FaultRule("truncate", "/audio/retrieve", nth=2), credit=CREDIT)
    assert shop.shopper().generate(job_id="k", output=out / "t.mp3").completed
    assert (_only(out), shop.jobs[0]["retrieved"]) == (["t.mp3"], 2)
    assert len(shop.jobs) == 1


def test_a_stream_that_always_breaks_ends_the_walk_and_loses_nothing(
    stage: OpenStage, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shop = stage(FaultRule("truncate", "/audio/retrieve", every=True), credit=CREDIT)
    shopper = shop.shopper()
    with pytest.raises(BadDownload) as caught:
        shopper.generate(job_id="k", output=out / "t.mp3")
    assert (caught.value.exit_code, caught.value.money_moved, caught.value.retry) == (9, "yes", "same_id")
    assert (_only(out), shop.jobs[0]["retrieved"], shop.jobs[0]["completed"]) == ([], 4, False)
    shop.faults()
    assert shopper.resume("k").completed
    assert len(shop.jobs) == 1


def test_a_lost_answer_to_a_retrieve_is_asked_for_again(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_after", "/audio/retrieve", nth=2), credit=CREDIT)
    assert shop.shopper().generate(job_id="k").completed


@pytest.mark.parametrize(
    "made",
    [
        b"this is not audio at all" * 9,
        b"",
        b"ID3\x04\x00\x00\x00\x00\x00\x00" * 3,
        make_audio("wav", 3, "q")[:20_000],
        make_audio("flac", 3, "q")[:9_000],
        make_audio("wav", 3, "q")[:44],
    ],
    ids=["text", "nothing", "tags", "half a wav", "half a flac", "a header alone"],
)
def test_bytes_that_do_not_decode_to_their_end_are_no_track(
    stage: OpenStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bytes
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    with monkeypatch.context() as patch:
        patch.setattr(audio_routes, "make_audio", lambda *_: made)
        with pytest.raises(BadDownload) as caught:
            shopper.generate(job_id="k", output=out / "t.mp3")
    assert (caught.value.exit_code, caught.value.money_moved) == (9, "yes")
    assert (_only(out), shop.asked()["/audio/complete"]) == ([], 0)
    assert shopper.resume("k").completed
    assert len(shop.jobs) == 1


def test_garbage_instead_of_every_answer_completes_nothing(stage: OpenStage) -> None:
    shop = stage(FaultRule("garbage", "/audio/retrieve", every=True), credit=CREDIT)
    with pytest.raises(BadDownload):
        shop.shopper().generate(job_id="k")
    assert shop.asked()["/audio/complete"] == 0


def test_an_answer_that_says_gzip_and_is_not_is_fetched_again(stage: OpenStage) -> None:
    lie: Json = {"status": 200, "body": "x" * 50, "headers": {"Content-Encoding": "gzip"}}
    shop = stage(FaultRule("status_after", "/audio/retrieve", value=lie), credit=CREDIT)
    assert shop.shopper().generate(job_id="k").completed


def test_a_folder_removed_meanwhile_is_said_in_one_line_and_another_output_takes_the_track(
    stage: OpenStage, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shop.clock.later(1, lambda: shutil.rmtree(out))
    with pytest.raises(BadDownload, match="cannot be written") as caught:
        shopper.generate(job_id="k", output=out / "t.mp3")
    assert "--output" in caught.value.next_step
    assert shop.jobs[0]["retrieved"] == 1, "a full disk is not mended by fetching again"
    assert shopper.resume("k", output=str(tmp_path / "t.mp3")).path == str(tmp_path / "t.mp3")
    assert len(shop.jobs) == 1


def test_an_existing_file_is_refused_before_anything_is_paid(stage: OpenStage, tmp_path: Path) -> None:
    shop = stage()
    shopper = shop.shopper()
    target = tmp_path / "mine.mp3"
    target.write_text("mine")
    for output in (target, tmp_path, tmp_path / "no" / "folder.mp3"):
        with pytest.raises(ConfigurationError) as caught:
            shopper.generate(job_id="k", max_top_up="5", output=output)
        assert (caught.value.exit_code, caught.value.money_moved) == (2, "no")
    assert (shop.payments, shop.jobs, target.read_text()) == ([], [], "mine")
    assert shopper.client.jobs() == []

    assert shopper.generate(job_id="k", max_top_up="5", output=target, force=True).completed
    assert find_queue_id(target.read_bytes()) == shop.jobs[0]["queue_id"]


def test_a_file_that_appears_meanwhile_is_kept_and_the_track_stands_beside_it(
    stage: OpenStage, tmp_path: Path
) -> None:
    shop = stage(credit=CREDIT)
    target = tmp_path / "t.mp3"

    def appear() -> None:
        target.write_text("mine")

    shop.clock.later(1, appear)
    track = shop.shopper().generate(job_id="k", output=target)
    assert target.read_text() == "mine"
    assert Path(track.path) != target
    assert track.warnings
    assert find_queue_id(Path(track.path).read_bytes()) == track.queue_id


def test_a_name_of_another_type_is_kept_with_a_warning(stage: OpenStage, tmp_path: Path) -> None:
    track = stage(credit=CREDIT).shopper().generate(job_id="k", output=tmp_path / "t.wav")
    assert Path(track.path).name == "t.wav"
    assert any("audio/mpeg" in warning for warning in track.warnings)


def test_a_track_kept_at_the_seller_is_not_completed_there(stage: OpenStage) -> None:
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()
    shopper.generate(job_id="k", keep_remote=True)
    assert (shop.asked()["/audio/complete"], shop.jobs[0]["state"]) == (0, "ready")
    assert shopper.job("k").state == "completed"


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule("status", "/audio/complete", every=True, value=500),
        FaultRule("drop_before", "/audio/complete", every=True),
        FaultRule("status", "/audio/complete", every=True, value={"status": 200, "body": {"success": False}}),
        FaultRule("status", "/audio/complete", every=True, value={"status": 402, "body": {"error": "no"}}),
    ],
    ids=str,
)
def test_a_complete_that_fails_is_a_warning_and_resume_tries_again(stage: OpenStage, rule: FaultRule) -> None:
    shop = stage(FaultRule(rule.action, rule.route, every=True, value=rule.value), credit=CREDIT)
    shopper = shop.shopper()
    track = shopper.generate(job_id="k")
    assert not track.completed
    assert any("not completed at the seller" in warning for warning in track.warnings)
    assert shopper.job("k").state == "saved"
    shop.faults()
    assert shopper.resume("k").completed
    assert shop.jobs[0]["completed"]
    assert shop.jobs[0]["retrieved"] == 1


def test_a_complete_whose_answer_is_lost_was_done(stage: OpenStage) -> None:
    shop = stage(FaultRule("drop_after", "/audio/complete"), credit=CREDIT)
    assert shop.shopper().generate(job_id="k").completed


def test_the_sellers_copy_stays_until_ours_is_safe(stage: OpenStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot sync ends the walk before the seller is told."""
    shop = stage(credit=CREDIT)
    shopper = shop.shopper()

    def broken(handle: int) -> None:
        raise OSError(5, "Input/output error")

    shopper.submit(job_id="k")
    with monkeypatch.context() as patch:
        patch.setattr("x402_audio.jobs.download.os.fsync", broken)
        with pytest.raises(X402AudioError):
            shopper.resume("k")
    assert shop.asked()["/audio/complete"] == 0
    assert shopper.resume("k").completed


def test_a_link_at_the_part_files_place_is_not_written_through(stage: OpenStage, tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("mine")
    link = tmp_path / ".t.mp3.part"
    link.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        _open_part(link)
    assert victim.read_text() == "mine"
