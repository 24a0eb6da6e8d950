"""Who works on a job: a name for this very process, and whether a named process is provably gone.

Knows nothing of jobs. A pid alone is worthless (it is given again, and containers have their own), so a name carries
the boot, the pid namespace and the process's start.
"""

from __future__ import annotations

import os
from pathlib import Path

_UNKNOWN = "-"


def this_owner() -> str:
    """`boot:namespace:pid:start` of the calling process; without /proc `host:-:pid:-`."""
    boot, namespace = _here()
    pid = os.getpid()
    return f"{boot}:{namespace}:{pid}:{_start_of(pid) or _UNKNOWN}"


def owner_is_dead(owner: str) -> bool:
    """True only when the owner was of this boot and pid namespace and its process is gone."""
    words = owner.split(":")
    if len(words) != 4 or (words[0], words[1]) != _here() or not words[2].isascii() or not words[2].isdigit():
        return False
    pid, start = int(words[2]), words[3]
    started = _start_of(pid)
    if started is not None and start != _UNKNOWN:
        return started != start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _here() -> tuple[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:").strip("[]")
    except OSError:
        import socket

        return socket.gethostname().replace(":", "_"), _UNKNOWN
    return boot, namespace


def _start_of(pid: int) -> str | None:
    """Clock ticks from boot to the process's start (proc(5) stat, field 22), `gone` for a corpse, None if unreadable."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    return "gone" if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")
