"""`python -m x402_audio` is the command line."""

from __future__ import annotations

import sys

from x402_audio.cli import main

if __name__ == "__main__":
    sys.exit(main())
