"""Unpacks an answer's bytes in small pieces, so that a few kilobytes cannot become gigabytes before they are counted.

One layer of gzip or deflate; anything else is refused, several layers above all. Knows nothing of who sent it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

PIECE_BYTES_MAX: Final = 256 * 1024
EMPTY_BYTES_MAX: Final = 64 * 1024
"""So many packed bytes that unpack to nothing are no answer."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class Unpacker:
    """One body's bytes as they were meant. Raises ValueError for an encoding or bytes that cannot be read."""

    def __init__(self, encodings: str) -> None:
        named = [
            word for word in encodings.lower().replace(" ", "").split(",") if word not in ("", "identity")
        ]
        if len(named) > 1 or not {*named} <= {"gzip", "x-gzip", "deflate"}:
            raise ValueError("the answer is packed in a way that is not unpacked here")
        self._deflate = named == ["deflate"]
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS if self._deflate else _GZIP) if named else None
        self._first = b""
        self._begun = False
        self._empty = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What these bytes unpack to, at most 256 KiB at a time; a piece may be empty."""
        if self._zlib is None:
            yield data
            return
        if not self._begun and len(data := self._first + data) < 2:  # two bytes tell framed deflate from bare
            self._first = data
            return
        while data:
            if self._zlib.eof:
                raise ValueError("the packed answer goes on after its end")
            piece = self._piece(data)
            left = self._zlib.unconsumed_tail or self._zlib.unused_data
            self._empty = 0 if piece else self._empty + len(data) - len(left)
            if self._empty > EMPTY_BYTES_MAX:
                raise ValueError("the packed answer unpacks to nothing")
            yield piece
            data = left

    def end(self) -> None:
        """Nothing more comes. Raises ValueError when that is too early."""
        if self._zlib is not None and (self._first or self._begun) and not self._zlib.eof:
            raise ValueError("the packed answer breaks off")

    def _piece(self, data: bytes) -> bytes:
        assert self._zlib is not None
        begun, self._begun = self._begun, True
        try:
            return self._zlib.decompress(data, PIECE_BYTES_MAX)
        except zlib.error:
            if begun or not self._deflate:
                raise ValueError("the packed answer cannot be unpacked") from None
        self._zlib = zlib.decompressobj(
            -zlib.MAX_WBITS
        )  # "deflate" without its frame is as common as with it
        return self._piece(data)
