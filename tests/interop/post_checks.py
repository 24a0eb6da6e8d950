"""x402-conformance's checks of a 402 (P1 to P7), on routes that are asked by POST: its own command asks by GET only.

Run in the foreign packages' environment; takes a JSON body and URLs. Says what was found, and the names of all checks
the package has, as one JSON object.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

from x402conf.harness import run_resource
from x402conf.spec import CATALOG


def poster(body: str) -> Any:
    """An opener that asks the same URL by POST."""

    def post(request: urllib.request.Request, timeout: float) -> Any:
        headers = {**dict(request.header_items()), "Content-Type": "application/json"}
        asked = urllib.request.Request(request.full_url, body.encode(), headers, method="POST")
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=timeout)

    return post


if __name__ == "__main__":
    order, *urls = sys.argv[1:]
    runs = [run_resource(url, opener=poster(order)) for url in urls]
    sys.stdout.write(json.dumps({"results": runs, "checks": sorted(CATALOG)}) + "\n")
