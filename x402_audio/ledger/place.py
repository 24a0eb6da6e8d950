"""Where a ledger may lie: a plain file of ours that nobody else can use, on a disk whose locks and syncs are honest.

Knows files, no database.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from x402_audio.errors import LedgerError

REFUSED_FILESYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs"})


def check_file(path: str) -> None:
    """Refuse a file that others can read or change, a link, or one on a network filesystem. Raises LedgerError."""
    try:
        facts = Path(path).lstat()
    except FileNotFoundError:
        raise LedgerError(f"the ledger {path} is gone", next_step="restore it from a backup") from None
    if not stat.S_ISREG(facts.st_mode):
        raise LedgerError(
            f"the ledger {path} is not a plain file", next_step="name the file itself, not a link to it"
        )
    if facts.st_uid != os.getuid():
        raise LedgerError(
            f"the ledger {path} belongs to another user", next_step=f"sudo chown $(id -un) {path}"
        )
    if facts.st_mode & 0o077:
        raise LedgerError(f"the ledger {path} is open to others", next_step=f"chmod 600 {path}")
    refuse_network_folder(Path(path).parent)


def refuse_network_folder(folder: Path, mounts: str = "/proc/self/mountinfo") -> None:
    """Locks of NFS, SMB and the like cannot be trusted with money. Raises LedgerError; silent where /proc is not."""
    try:
        lines = Path(mounts).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    place, best, kind = folder.resolve(), -1, ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(mount.split(" ")[4].replace("\\040", " "))
        if (place == point or point in place.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), source.split(" ")[0]
    if kind in REFUSED_FILESYSTEMS:
        raise LedgerError(f"{folder} is on {kind}, whose locks cannot keep books exact",
                          next_step="put LEDGER on a local disk, or use postgresql://")  # fmt: skip


def create_empty(path: str) -> None:
    """Make a new file of mode 0600. Raises LedgerError when something is there already."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise LedgerError(
            f"{path} exists already", next_step="name a new file; nothing is overwritten"
        ) from None


def sync(path: str) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
