"""A downloads folder that forgets what was not synced, beneath the very calls `jobs/download.py` makes.

The files are real; what a power cut would leave of them is kept beside: contents as of the last fsync of the file,
names as of the last fsync of the folder. The ledger's own files are real SQLite, and a cut returns them to the last
commit that its connection was told to sync (that SQLite then does sync is read from system calls in tests/kill).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import IO, Any

import apsw


class Disk:
    """One folder of files. Durable: inode -> bytes, name -> inode."""

    def __init__(
        self, folder: Path, durable_point: Callable[[str], None], this_owner: Callable[[], str]
    ) -> None:
        self.folder = folder
        self._point = durable_point
        self._this_owner = this_owner
        self._open: list[tuple[str, IO[Any]]] = []
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._unsynced: dict[str, int] = {}

    # --- the calls of the system
    def fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path == self.folder:
            self._names = {file.name: file.stat().st_ino for file in self.folder.iterdir()}
            self._unsynced.clear()
        else:
            self._contents[path.stat().st_ino] = path.read_bytes()
        self._point(f"fsync of {'the folder' if path == self.folder else 'the file'}")

    def replace(self, source: Any, target: Any) -> None:
        os.replace(source, target)
        self._unsynced[Path(target).name] = Path(target).stat().st_ino
        self._point("rename")

    def fdopen(self, descriptor: int, mode: str) -> IO[Any]:
        file: IO[Any] = os.fdopen(descriptor, mode)
        self._open.append((self._this_owner(), file))
        return file

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def forget(self, owner: str) -> None:
        """A process died: its files are closed, and what it had not yet handed to the system is gone."""
        for whose, file in self._open:
            if whose == owner and not file.closed:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, file.fileno())
                os.close(nowhere)
                file.close()
        self._open = [(whose, file) for whose, file in self._open if not file.closed]

    # --- what would be left
    def safe(self, name: str) -> bytes | None:
        """What stands under a name whatever happens now; None when it might be gone or other."""
        inode = self._names.get(name)
        if inode is None or name in self._unsynced:
            return None
        return self._contents.get(inode)

    def cut(self, dice: Random) -> None:
        """The power fails: each unsynced name may or may not have reached the disk, unsynced contents are torn."""
        names = {
            **self._names,
            **{name: inode for name, inode in self._unsynced.items() if dice.random() < 0.5},
        }
        found: dict[str, bytes] = {}
        for file in self.folder.iterdir():
            if file.name not in names and dice.random() < 0.5:
                names[file.name] = file.stat().st_ino  # made and never synced: perhaps there, perhaps not
        current = {file.stat().st_ino: file.read_bytes() for file in self.folder.iterdir()}
        for name, inode in names.items():
            whole = self._contents.get(inode)
            torn = current.get(inode, b"")
            found[name] = whole if whole is not None else torn[: dice.randrange(len(torn) + 1)]
        for file in list(self.folder.iterdir()):
            file.unlink()
        self._contents.clear()
        self._names.clear()
        self._unsynced.clear()
        for name, data in found.items():
            path = self.folder / name
            path.write_bytes(data)
            self._names[name] = path.stat().st_ino
            self._contents[path.stat().st_ino] = data


class BooksDisk:
    """The ledger's file and its log on the same disk: a commit that was not synced is gone after a power cut.

    forgets: whether a cut will come at all; without one nothing needs to be remembered.
    """

    SYNCED = 2
    """`PRAGMA synchronous`: FULL. Below it SQLite leaves the moment of writing to the system."""

    def __init__(self, path: Path, *, forgets: bool) -> None:
        self.path = path
        self._forgets = forgets
        self._log = Path(f"{path}-wal")
        self._safe = (path.read_bytes(), b"") if forgets else (b"", b"")

    def committed(self, connection: apsw.Connection | None) -> None:
        """A transaction has ended on that connection."""
        if self._forgets and connection is not None and connection.pragma("synchronous") >= self.SYNCED:
            self._safe = self.path.read_bytes(), self._log.read_bytes() if self._log.exists() else b""

    def cut(self) -> None:
        """The power fails: what stands is the last synced state, and perhaps a torn piece of what came after in the log.

        Nobody may have the books open: the memory shared by their programs is gone.
        """
        if not self._forgets:
            return
        books, log = self._safe
        for suffix in ("-journal", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.write_bytes(books)
        dice = Random(len(books) + len(log))  # not the world's: what else happens there stays as it was
        torn = dice.randbytes(dice.choice((0, 0, 7, 24, 4_000, 9_000)))
        if log or torn:
            self._log.write_bytes(log + torn)
            self._log.chmod(0o600)
