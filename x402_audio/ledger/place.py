"""Where a ledger may lie: a plain file of ours that nobody else can change, on a disk whose locks and syncs are honest.

Knows files, no database.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from x402_audio.errors import LedgerError
from x402_audio.ledger.trouble import RESTORE

REFUSED_FILESYSTEMS: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "davfs", "fuse.sshfs", "fuse.davfs2", "fuse.s3fs", "fuse.rclone",
    "fuse.gcsfuse", "fuse.goofys",
})  # fmt: skip
"""Their locks or syncs are known to be worth nothing."""
LOCAL_FILESYSTEMS: Final = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "tmpfs", "ramfs", "overlay",
})  # fmt: skip
"""Their locks and syncs are known to be good. Any other is tried."""
LOG: Final = ("-wal", "-shm")
COMPANIONS: Final = ("-journal", *LOG)
"""SQLite believes what it finds under these names."""
_TRY_S: Final = 20
_TRY_LOCK: Final = """
import fcntl, sys
file = open(sys.argv[1], "rb+")
for _ in sys.stdin:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("taken", flush=True)
    else:
        print("free", flush=True)
"""
"""Another process that tries the lock each time it is asked."""
_tried: set[int] = set()


Identity = tuple[int, int]
"""Which file it is, whatever it is called: device and inode."""


class Stamp(NamedTuple):
    """How a file looks from outside; it looks otherwise when somebody wrote to it."""

    size: int
    changed_ns: int


def identity_of(path: str) -> Identity:
    """The file that lies there now."""
    facts = os.lstat(path)
    return facts.st_dev, facts.st_ino


def check_file(path: str) -> None:
    """Refuse a file that others can read or change, a link, or one on a network filesystem. Raises LedgerError."""
    try:
        facts = Path(path).lstat()
    except FileNotFoundError:
        raise LedgerError(f"the ledger {path} is gone", next_step="restore it from a backup") from None
    _refuse_others(path, facts, 0o077)
    if not facts.st_size:  # SQLite would delete its log, which may hold what was paid
        raise LedgerError(f"{path} is empty and no ledger",
                          next_step="name another file with --ledger, or restore the newest backup")  # fmt: skip
    for suffix in COMPANIONS:
        with suppress(FileNotFoundError):
            _refuse_others(path + suffix, Path(path + suffix).lstat(), 0o022)
    check_folder(Path(path).parent)


def identities_of(path: str, *, wal: bool) -> dict[str, Identity]:
    """The files of a ledger that is open, by path: in WAL mode its log and shared memory, and last the file itself."""
    return {path + suffix: identity_of(path + suffix) for suffix in (*(LOG if wal else ()), "")}


def check_still(identities: Mapping[str, Identity]) -> Stamp:
    """The files that were opened still lie there. Raises LedgerError when one was moved, deleted or replaced.

    SQLite would go on writing to a log that nobody finds again. Gives how the main file looks from outside.
    """
    now = None
    for path, identity in identities.items():
        try:
            # Asked with every transaction: a Path would cost ten times the call.
            now = os.lstat(path)
        except FileNotFoundError:
            raise LedgerError(
                f"{_named(path)} is gone; it was moved or deleted while this program had it open",
                next_step="put it back, or restore a backup; then start this program again",
            ) from None
        if (now.st_dev, now.st_ino) != identity:
            raise LedgerError(
                f"{_named(path)} was replaced while this program had it open",
                next_step="start this program again, then: x402-audio reconcile",
            )
    assert now is not None
    return Stamp(now.st_size, now.st_mtime_ns)


def _named(path: str) -> str:
    return f"the log of the ledger, {path}," if path.endswith(LOG) else f"the ledger {path}"


def check_whole(path: str, page_bytes: int) -> None:
    """No half page: SQLite takes the missing half for zeros, and rows for gone. Raises LedgerError.

    In the file itself; where the log still has the page whole, a checkpoint is writing it, or broke off and is repeated.
    Without a log only for one who holds the write lock: a writer's page is not there in one piece at once.
    """
    size = os.lstat(path).st_size
    if not size % page_bytes or _log_has(path, size // page_bytes + 1, page_bytes):
        return
    if os.lstat(path).st_size == size:  # else it was written while we looked
        raise LedgerError(f"{path} is cut short in the middle of a page", next_step=RESTORE)


def _log_has(path: str, page: int, page_bytes: int) -> bool:
    """Whether that page stands in the log: a header of 32 bytes, then frames of 24 bytes and a page, of the same salts."""
    with suppress(FileNotFoundError), Path(f"{path}-wal").open("rb") as log:
        salts = log.read(32)[16:24]
        while (frame := log.read(24))[8:16] == salts and len(frame) == 24:
            if int.from_bytes(frame[:4]) == page and len(log.read(page_bytes)) == page_bytes:
                return True
            log.seek(page_bytes, os.SEEK_CUR)
    return False


def check_folder(folder: Path) -> None:
    """Refuse a folder in which others can replace files, or of a disk that cannot keep books. Raises LedgerError."""
    facts = folder.stat()
    if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
        raise LedgerError(
            f"anybody can replace files in {folder}, the ledger's folder", next_step=f"chmod o-w {folder}"
        )
    if (
        facts.st_mode & stat.S_IWGRP
        and not facts.st_mode & stat.S_ISVTX
        and not _is_our_own_group(facts.st_gid)
    ):
        raise LedgerError(
            f"a group can replace files in {folder}, the ledger's folder", next_step=f"chmod g-w {folder}"
        )
    check_disk(folder)


def check_disk(folder: Path, mounts: str = "/proc/self/mountinfo") -> None:
    """Refuse NFS, SMB and the like by name; try locks and syncs of what has no known name. Raises LedgerError."""
    kind = _filesystem(folder, mounts)
    if kind in REFUSED_FILESYSTEMS:
        raise _refused(folder, f"{folder} is on {kind}, whose locks cannot keep books exact")
    device = folder.stat().st_dev
    if kind not in LOCAL_FILESYSTEMS and device not in _tried:
        try_disk(folder)
        _tried.add(device)


def shares_memory(folder: Path, mounts: str = "/proc/self/mountinfo") -> bool:
    """Whether programs can share the memory of a file there, as a write-ahead log wants; tried on a disk without a known name."""
    import mmap
    import tempfile

    if _filesystem(folder, mounts) in LOCAL_FILESYSTEMS:
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(mmap.PAGESIZE)
            with mmap.mmap(file.fileno(), mmap.PAGESIZE) as memory:
                memory[:4] = b"x402"
                return os.pread(file.fileno(), 4, 0) == b"x402"
    except (OSError, ValueError):
        return False


def try_disk(folder: Path) -> None:
    """Whether a lock taken here stops another process, and what is synced can be read back. Raises LedgerError."""
    import subprocess
    import tempfile

    try:
        descriptor, name = tempfile.mkstemp(prefix=".x402-audio-try-", dir=folder)
    except OSError as error:
        raise LedgerError(
            f"{folder} cannot be written: {error.strerror}",
            next_step=f"make {folder} writable for you, or name another LEDGER",
        ) from None
    try:
        with os.fdopen(descriptor, "rb+") as file:
            file.write(b"x402")
            file.flush()
            os.fsync(file.fileno())
            sync(str(folder))
            os.link(name, name + ".link")
            Path(name + ".link").unlink()
            kept = Path(name).read_bytes()
            held, freed = _another_sees(name, file.fileno())
    except (OSError, ImportError, subprocess.SubprocessError) as error:
        raise _refused(folder, f"the disk of {folder} fails the test of locks and syncs: {error}") from None
    finally:
        Path(name).unlink(missing_ok=True)
    if (kept, held, freed) != (b"x402", "taken", "free"):
        raise _refused(
            folder, f"the disk of {folder} fails the test of locks and syncs: a lock was {held}, then {freed}"
        )


def _another_sees(name: str, descriptor: int) -> tuple[str, str]:
    """What another process says of our lock while we hold it, and after."""
    import fcntl
    import subprocess

    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    command = [sys.executable, "-I", "-S", "-c", _TRY_LOCK, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("try\n")
        other.stdin.flush()
        held = other.stdout.readline().strip()
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
        freed = other.communicate("try\n", timeout=_TRY_S)[0].strip()
    return held, freed


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


def _refuse_others(path: str, facts: os.stat_result, bits: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise LedgerError(
            f"the ledger {path} is not a plain file", next_step="name the file itself, not a link to it"
        )
    if facts.st_uid != os.getuid():
        raise LedgerError(
            f"the ledger {path} belongs to another user", next_step=f"sudo chown $(id -un) {path}"
        )
    if facts.st_mode & bits:
        raise LedgerError(f"the ledger {path} is open to others", next_step=f"chmod 600 {path}")


def _is_our_own_group(gid: int) -> bool:
    """A user's private group, as many systems make one for each user, lets nobody else in."""
    if gid != os.getgid():
        return False
    import grp
    import pwd

    try:
        return set(grp.getgrgid(gid).gr_mem) <= {pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        return False


def _filesystem(folder: Path, mounts: str) -> str:
    """The kind of the innermost mount that holds the folder; '' where the system does not say."""
    try:
        lines = Path(mounts).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    place, best, kind = folder.resolve(), -1, ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(mount.split(" ")[4].replace("\\040", " "))
        if (place == point or point in place.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), source.split(" ")[0]
    return kind


def _refused(folder: Path, why: str) -> LedgerError:
    return LedgerError(why, next_step=f"put LEDGER (or STATE_DIR) on a local disk, not below {folder}")
