"""Playable sound of an exact length that carries the queue_id of its job inside.

The sound is made once per format and length; the queue_id is written into a copy (ID3v2 frame, FLAC comment,
WAV INFO chunk). Knows nothing of jobs and prices.
"""

from __future__ import annotations

import io
import re
import threading
from functools import lru_cache
from typing import Final

RATES: Final = {"mp3": 32_000, "flac": 8000, "wav": 8000}
"""Samples a second: small files; an mp3 below 32 kHz makes the decoder complain about its encoder."""
CONTENT_TYPES: Final = {"mp3": "audio/mpeg", "flac": "audio/flac", "wav": "audio/wav"}
_SUBTYPES: Final = {"mp3": "MPEG_LAYER_III", "flac": "PCM_16", "wav": "PCM_16"}
_MARK: Final = "x402-audio-sandbox queue_id="
_MARKED: Final = re.compile(rb"x402-audio-sandbox queue_id=([0-9A-Za-z-]{1,64})")
_LOCK: Final = threading.Lock()


def make_audio(audio_format: str, seconds: int, queue_id: str) -> bytes:
    """`seconds` of a soft chord as mp3, flac or wav, marked with the queue_id."""
    with _LOCK:
        plain = _sound(audio_format, seconds)
    return _TAGGERS[audio_format](plain, (_MARK + queue_id).encode("ascii"))


def find_queue_id(data: bytes) -> str | None:
    """The queue_id a sandbox file carries, or None."""
    found = _MARKED.search(data)
    return found[1].decode("ascii") if found else None


@lru_cache(maxsize=32)
def _sound(audio_format: str, seconds: int) -> bytes:
    import numpy
    import soundfile

    rate = RATES[audio_format]
    time = numpy.arange(seconds * rate, dtype="float32") / rate
    swell = numpy.minimum(1, numpy.minimum(time, seconds - time) * 4) * (0.7 + 0.3 * numpy.sin(time * 0.8))
    wave = sum(numpy.sin(2 * numpy.pi * hertz * time) for hertz in (220.0, 277.18, 329.63))
    buffer = io.BytesIO()
    soundfile.write(
        buffer, (0.12 * swell * wave).astype("float32"), rate,
        format=audio_format.upper(), subtype=_SUBTYPES[audio_format],
    )  # fmt: skip
    return buffer.getvalue()


def _tag_mp3(data: bytes, text: bytes) -> bytes:
    frame_body = b"\x00queue_id\x00" + text
    frame = b"TXXX" + len(frame_body).to_bytes(4, "big") + b"\x00\x00" + frame_body
    size = len(frame)
    syncsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + syncsafe + frame + data


def _tag_wav(data: bytes, text: bytes) -> bytes:
    comment = text + b"\x00" * (2 - len(text) % 2)
    info = b"INFOICMT" + len(comment).to_bytes(4, "little") + comment
    body = data[8:] + b"LIST" + len(info).to_bytes(4, "little") + info
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _tag_flac(data: bytes, text: bytes) -> bytes:
    """Put a VORBIS_COMMENT block (type 4) after STREAMINFO and drop the encoder's own."""
    vendor = b"sandbox"
    field = b"COMMENT=" + text
    comment = (
        len(vendor).to_bytes(4, "little") + vendor + (1).to_bytes(4, "little")
        + len(field).to_bytes(4, "little") + field
    )  # fmt: skip
    blocks, at, last = [], 4, False
    while not last:
        kind, length = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        last = bool(kind & 0x80)
        if kind & 0x7F != 4:
            blocks.append((kind & 0x7F, data[at + 4 : at + 4 + length]))
        at += 4 + length
    blocks.insert(1, (4, comment))
    head = b"fLaC"
    for number, (kind, content) in enumerate(blocks, start=1):
        flag = 0x80 if number == len(blocks) else 0
        head += bytes([kind | flag]) + len(content).to_bytes(3, "big") + content
    return head + data[at:]


_TAGGERS: Final = {"mp3": _tag_mp3, "wav": _tag_wav, "flac": _tag_flac}
