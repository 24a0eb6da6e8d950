"""Serves an application of the foreign packages' environment on a free port, which it says on its first line."""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn


def serve(app: Any) -> None:
    """Listen on 127.0.0.1 until killed."""
    door = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"listening on {door.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[door])
