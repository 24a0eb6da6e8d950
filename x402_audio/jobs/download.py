"""From a streamed answer to a file that is safe: part file → size → decoded → fsync → hash → rename → folder fsync.

Only then may the seller be told to delete its copy (ledger invariant I8). Knows no seller and no ledger.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import httpx

from x402_audio.clock import Clock
from x402_audio.errors import BadDownload, ConfigurationError
from x402_audio.flow import Flow, call, chunk, close

FILE_BYTES_MAX: Final = 1024 * 1024 * 1024
DOWNLOAD_TOTAL_S: Final = 3600
ALIVE_EVERY_S: Final = 30
EXTENSIONS: Final = {
    "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav",
    "audio/flac": "flac", "audio/x-flac": "flac", "audio/ogg": "ogg", "audio/opus": "opus", "audio/aac": "aac",
    "audio/mp4": "m4a", "audio/x-m4a": "m4a", "audio/webm": "webm", "audio/aiff": "aiff",
}  # fmt: skip
DECODE_WHOLE_MAX: Final = 32 * 1024 * 1024
"""Files up to this size are decoded to their end; of longer ones the beginning is (their length is checked)."""
DECODED_MAX: Final = 4 * 1024 * 1024 * 1024
"""And so many bytes of sound at most: a few megabytes of silence, well packed, would last for days."""
_WAV_LENGTH_UNKNOWN: Final = 0x7FFF_0000
_BLOCK_BYTES: Final = 256 * 1024
_SHOWN_MAX: Final = 300
_SAFE_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that is safe on disk. sha256 hex; duration in seconds, 0 where the library cannot decode the type."""

    path: Path
    sha256: str
    bytes: int
    content_type: str
    duration_seconds: float
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Part:
    path: Path
    file: BinaryIO
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)


def _open_part(path: Path) -> BinaryIO:
    """A part file of our own: never through a link that somebody else put there."""
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def file_name(job_id: str, content_type: str) -> str:
    """`<job-id>.<extension of the content type>`, safe as one path part."""
    return f"{_SAFE_NAME.sub('_', job_id).strip('._') or 'track'}.{extension_of(content_type)}"


def _cut(name: str, bytes_max: int) -> str:
    """A name's beginning, by the bytes a file system counts."""
    return name.encode("utf-8", "surrogateescape")[:bytes_max].decode("utf-8", "ignore")


def extension_of(content_type: str) -> str:
    return EXTENSIONS.get(content_type.partition(";")[0].strip().lower(), "audio")


def check_writable(target: Path, *, force: bool) -> None:
    """Refuse, before any money, a place where the file could not be put. Raises ConfigurationError."""
    try:
        _check_place(target, force=force)
        _try_writing(target.parent)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{shown(target)} cannot be written ({why})", next_step="choose another --output"
        ) from None
    except ValueError:  # a path with a NUL in it, or half a character
        raise ConfigurationError(
            f"{shown(target)} is no path of a file", next_step="choose another --output"
        ) from None


def shown(path: Path) -> str:
    """A path as one bounded printable line."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(path))
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


def _check_place(target: Path, *, force: bool) -> None:
    if b"\0" in os.fsencode(target):
        raise ValueError
    if target.is_dir():
        raise ConfigurationError(f"{shown(target)} is a folder", next_step="name a file with --output")
    if target.exists() and not force:
        raise ConfigurationError(
            f"{shown(target)} exists already", next_step="choose another --output, or give --force"
        )
    folder = target.parent
    if not folder.is_dir():
        raise ConfigurationError(
            f"the folder {shown(folder)} does not exist", next_step=f"mkdir -p {shown(folder)}"
        )


def _try_writing(folder: Path) -> None:
    """Make a file without a name, where the system can: nothing is left behind, wherever we die."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    nameless = getattr(os, "O_TMPFILE", None)
    if nameless is None:
        return
    try:
        os.close(os.open(folder, nameless | os.O_WRONLY, 0o600))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            raise


def save_stream(
    response: httpx.Response,
    target: Path,
    *,
    job_id: str,
    force: bool,
    clock: Clock,
    alive: Callable[[], None],
) -> Flow[Saved]:
    """Stream an audio answer to `target`. The response is closed here. Raises BadDownload; the part file is dropped.

    alive: called now and then, so that nobody else takes a long download for a dead one.
    """
    content_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
    declared = _declared(response)
    own = hashlib.sha256(job_id.encode()).hexdigest()[:12]
    part_path = target.parent / f".{_cut(target.name, 80)}.{own}.part"
    try:
        part = yield from call(lambda: _Part(part_path, _open_part(part_path)))
    except OSError as error:
        yield from close(response)
        raise _not_written(target, error, job_id) from None
    try:
        yield from _receive(response, part, declared, job_id, clock, alive)
        return (yield from call(lambda: _finish(part, target, content_type, force, job_id)))
    except (BadDownload, httpx.RequestError, OSError) as error:
        part.file.close()
        part_path.unlink(missing_ok=True)
        if isinstance(error, BadDownload):
            raise
        if isinstance(error, OSError):
            raise _not_written(target, error, job_id) from None
        raise BadDownload(f"the download broke off ({type(error).__name__})", job_id=job_id) from None
    finally:
        part.file.close()


def _not_written(target: Path, error: OSError, job_id: str) -> BadDownload:
    """A fault of this machine, not of the line: fetching again would not help."""
    return BadDownload(
        f"{target} cannot be written ({error.strerror or type(error).__name__}); the track is still at the seller",
        job_id=job_id, retry="never", owner="human",
        next_step=f"make the folder writable, or: x402-audio resume {job_id} --output PATH",
    )  # fmt: skip


def _receive(
    response: httpx.Response,
    part: _Part,
    declared: int | None,
    job_id: str,
    clock: Clock,
    alive: Callable[[], None],
) -> Flow[None]:
    end = clock.monotonic() + DOWNLOAD_TOTAL_S
    told = clock.monotonic()
    while data := (yield from chunk(response)):
        yield from call(partial(part.write, data))
        if clock.monotonic() - told >= ALIVE_EVERY_S:
            told = clock.monotonic()
            yield from call(alive)
        if part.size > FILE_BYTES_MAX or (declared is not None and part.size > declared):
            raise BadDownload(
                f"the audio is longer than declared ({part.size} bytes and more)", job_id=job_id
            )
        if clock.monotonic() > end:
            raise BadDownload("the download took more than an hour", job_id=job_id)
    yield from close(response)
    if declared is not None and part.size != declared:
        raise BadDownload(f"{part.size} of {declared} bytes arrived", job_id=job_id)
    if part.size == 0:
        raise BadDownload("the audio is empty", job_id=job_id)


def _declared(response: httpx.Response) -> int | None:
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        return None
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _finish(part: _Part, target: Path, content_type: str, force: bool, job_id: str) -> Saved:
    """Blocking: check, sync, rename, sync the folder."""
    part.file.flush()
    seconds, warnings = decode(part.path, job_id)
    os.fsync(part.file.fileno())
    part.file.close()
    sha256 = part.digest.hexdigest()
    wanted, given = target.suffix.lstrip(".").lower(), extension_of(content_type)
    if wanted and given not in ("audio", wanted):
        warnings = (*warnings, f"the seller sent {content_type}, the file is named .{wanted}")
    if not force and target.exists() and _hash_of(target) != sha256:
        aside = target.with_name(f"{_cut(target.stem, 160)}-{sha256[:12]}{_cut(target.suffix, 80)}")
        warnings = (*warnings, f"{target.name} appeared meanwhile and was kept; the track is {aside.name}")
        target = aside
    os.replace(part.path, target)
    _sync_folder(target.parent)
    return Saved(target, sha256, part.size, content_type, seconds, warnings)


def is_same_file(path: Path, sha256: str) -> bool:
    """The file is there and has that hash."""
    return bool(sha256) and path.is_file() and _hash_of(path) == sha256


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def decode(path: Path, job_id: str = "") -> tuple[float, tuple[str, ...]]:
    """Decode the file by the audio library; seconds of sound and warnings. Raises BadDownload."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as sound:
            decoded, whole = 0, path.stat().st_size <= DECODE_WHOLE_MAX
            frame = 2 * sound.channels
            while data := sound.buffer_read(max(1, _BLOCK_BYTES // frame), dtype="int16"):
                decoded += len(data) // frame
                if not whole or decoded * frame > DECODED_MAX:
                    whole = False
                    break
            if sound.frames <= 0 or decoded == 0:
                raise BadDownload("the audio has no sound in it", job_id=job_id)
            if whole and (decoded < sound.frames or _is_cut_wav(path)):
                raise BadDownload("the audio breaks off before its end", job_id=job_id)
            return sound.frames / sound.samplerate, ()
    except soundfile.LibsndfileError:
        if _undecodable_container(path):
            return 0.0, ("this audio type was not decoded here; only its size was checked",)
        raise BadDownload("what arrived is not audio the library can decode", job_id=job_id) from None
    except (AssertionError, ArithmeticError, RuntimeError, TypeError, ValueError):
        # The library's Python side asserts that as many frames come as the file's head promises.
        raise BadDownload("the audio breaks off before its end, or is damaged", job_id=job_id) from None


def seconds_of(path: Path) -> float:
    """The length a decoded file says it has; 0 where the library does not read its type."""
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (ArithmeticError, RuntimeError, TypeError, ValueError):  # LibsndfileError is a RuntimeError
        return 0.0


def _is_cut_wav(path: Path) -> bool:
    """The library plays what is there of a cut WAV as if it were all; a length that was streamed says nothing."""
    with path.open("rb") as file:
        head = file.read(8)
    return (
        head[:4] == b"RIFF"
        and path.stat().st_size < int.from_bytes(head[4:], "little") + 8 < _WAV_LENGTH_UNKNOWN
    )


def _undecodable_container(path: Path) -> bool:
    """AAC, MP4 and WebM are audio too, but the library does not read them."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or head[:2] in (b"\xff\xf1", b"\xff\xf9")
