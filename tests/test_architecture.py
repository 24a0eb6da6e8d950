"""The plan of the house, read from the syntax trees: who may know whom, and what is written nowhere.

A breach fails with file and line. Every exception from a rule stands in a table here, with its reason.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

HOUSE = Path(__file__).parent.parent / "x402_audio"
FUNCTION_LINES_MAX = 70

GROUND = (
    "errors",
    "money",
    "jsontext",
    "clock",
    "flow",
    "threads",
    "unpack",
    "patience",
    "notices",
    "secret",
)
SELLER_CONTRACT = ("providers.provider", "providers.catalog", "providers.answers", "providers.prices")
"""What is said about any seller: plain types and readings. Concrete sellers are another matter."""
ROOMS = ("protocol", "ledger", "providers", "payment", "jobs")

MAY_KNOW = {
    "ground": GROUND,
    "protocol": (*GROUND, "protocol"),
    "ledger": (*GROUND, "ledger"),
    "providers": (*GROUND, "providers"),
    "budget": (*GROUND, "ledger"),
    "notify": (*GROUND, "ledger"),
    "reports": (*GROUND, *SELLER_CONTRACT),
    "payment": (*GROUND, "protocol", "ledger", *SELLER_CONTRACT, "budget", "reports", "payment"),
    "jobs": (*GROUND, "protocol", "ledger", *SELLER_CONTRACT, "payment", "jobs"),
    # It judges our money and our signatures, so it shares with us only what neither can get wrong in our favour.
    "sandbox": ("jsontext", "money", "clock", "sandbox"),
    # The front: one file puts the rooms together, one says the verbs, one gives them a sync and an async face.
    "settings": (*GROUND, "ledger", "budget"),
    "wiring": (*GROUND, *ROOMS, "budget", "settings", "notify"),
    "own_files": (*GROUND, "settings"),
    "verbs": (*GROUND, *ROOMS, "budget", "settings", "notify", "own_files", "reports", "wiring"),
    "client": (*GROUND, *ROOMS, "budget", "settings", "reports", "wiring", "verbs"),
    "cli": ("",),
    "__main__": ("cli",),
    "__init__": ("",),
}
NAMES_SELLERS = {
    "providers/": "is where they live",
    "wiring.py": "chooses one by settings or by asking the origin",
    "payment/auth.py": "is a door of its own: a stranger's httpx client has no wiring to hand it a seller",
}
NETWORK_ROOMS = {
    "flow.py": "hands requests to a transport",
    "patience.py": "gives our own clients' pools connections that bound an answer's head",
    "payment/": "builds and judges requests of paid calls",
    "jobs/": "holds a streamed answer and names how a stream breaks",
    "wiring.py": "asks an origin once which kind of seller it is",
    "verbs.py": "sends one unsigned request for `inspect`",
    "client.py": "makes the clients the flows are driven on",
    "cli/": "inspects a URL, asks whether a host answers",
}
LATE = (
    "argon2",
    "eth_account",
    "eth_keys",
    "eth_utils",
    "web3",
    "rich",
    "soundfile",
    "numpy",
    "dotenv",
    "pydantic",
)
"""Slow to import or with side effects (eth_account raises the recursion limit): only inside functions."""
FOREIGN_SQLITE = {"sqlite3", "_sqlite3", "pysqlite3", "aiosqlite", "sqlalchemy", "dbm"}
"""Another SQLite library on the ledger's file in the same process would end the locks of ours, as POSIX has it."""
DRAWERS = {"utils", "util", "helpers", "common", "misc", "base", "core", "manager", "managers"}
MAY_CATCH_EVERYTHING = {
    "flow.py": "a driver throws whatever a step raised into the flow, which decides",
    "threads.py": "BaseException, to give whatever a call raised to the task that waits for it",
    "cli/run.py": "a fault of ours must end as one line and an exit code, never as a traceback with locals",
    "payment/auth.py": "a driver, as in flow.py",
    "payment/chain.py": "web3 raises its own, requests' and ValueError kinds; all mean: could not read",
    "ledger/database.py": "BaseException, only to roll back or close, and raised again",
    "ledger/migration.py": "BaseException, only to roll back, and raised again",
    "ledger/rates.py": "BaseException, only to close, and raised again",
    "protocol/keystore.py": "BaseException, only to remove a half-written file, and raised again",
}
TIMES_ARE_FLOATS = {
    "ledger/limits.py": "windows are cut from Unix seconds",
    "ledger/rates.py": "seconds to wait for a turn; holds no money",
    "ledger/replay.py": "times in events, Unix seconds",
    "ledger/spending.py": "when a window ends, Unix seconds",
}


class Place(NamedTuple):
    file: str
    tree: ast.Module

    def at(self, node: ast.stmt | ast.expr | ast.ExceptHandler) -> str:
        return f"{self.file}:{node.lineno}"


@cache
def house() -> tuple[Place, ...]:
    return tuple(
        Place(path.relative_to(HOUSE).as_posix(), ast.parse(path.read_text()))
        for path in sorted(HOUSE.rglob("*.py"))
    )


def room_of(file: str) -> str:
    first = file.partition("/")[0].removesuffix(".py")
    if first in GROUND:
        return "ground"
    assert first in MAY_KNOW, f"{file}: a new room wants a line in MAY_KNOW"
    return first


def imports(place: Place, *, top_level: bool = False) -> Iterator[tuple[str, str]]:
    """(where, module or module.name) of each import; of those at module level only, if asked."""
    for node in _at_import(place.tree) if top_level else ast.walk(place.tree):
        if isinstance(node, ast.Import):
            yield from ((place.at(node), name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place.at(node)}: relative imports hide the room"
            yield from ((place.at(node), f"{node.module}.{name.name}") for name in node.names)


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: function bodies and type-checking blocks do not."""
    for node in ast.iter_child_nodes(tree):
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        )
        if not late:
            yield node
            yield from _at_import(node)


def known(module: str, allowed: tuple[str, ...]) -> bool:
    return any(not name or module == name or module.startswith(name + ".") for name in allowed)


def listed(breaches: list[str]) -> str:
    return "\n".join(["", *breaches])


def test_rooms_import_downwards_only() -> None:
    breaches = [
        f"{where} imports {module}"
        for place in house()
        for where, module in imports(place)
        if module.startswith("x402_audio.")
        and not _may_know(place, module.removeprefix("x402_audio."))
        and module != "x402_audio.__version__"
    ]
    assert not breaches, listed(breaches)


def _may_know(place: Place, module: str) -> bool:
    if known(module, MAY_KNOW[room_of(place.file)]):
        return True
    return place.file in NAMES_SELLERS and known(module, ("providers",))


def test_only_the_listed_places_name_concrete_sellers() -> None:
    breaches = [
        f"{where} imports {module}"
        for place in house()
        for where, module in imports(place)
        if module.startswith("x402_audio.providers.")
        and not known(module.removeprefix("x402_audio."), SELLER_CONTRACT)
        and not place.file.startswith(tuple(NAMES_SELLERS))
    ]
    assert not breaches, listed(breaches)


def test_httpx_is_named_only_where_requests_are_made() -> None:
    breaches = [
        where
        for place in house()
        for where, module in imports(place)
        if module.split(".")[0] == "httpx" and not place.file.startswith(tuple(NETWORK_ROOMS))
    ]
    assert not breaches, listed(breaches)


def test_heavy_packages_are_imported_inside_functions() -> None:
    breaches = [
        f"{where} imports {module}"
        for place in house()
        for where, module in imports(place, top_level=True)
        if module.split(".")[0] in LATE
    ]
    assert not breaches, listed(breaches)


def test_one_sqlite_library_is_loaded_and_no_other() -> None:
    breaches = [
        f"{where} imports {module}"
        for place in house()
        for where, module in imports(place)
        if module.split(".")[0] in FOREIGN_SQLITE
    ]
    assert not breaches, listed(breaches)


def test_no_test_opens_books_with_another_sqlite_library() -> None:
    root = HOUSE.parent
    breaches = [
        f"{path.relative_to(root)} imports {name}"
        for folder in ("tests", "benchmarks")
        for path in sorted((root / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        if name.split(".")[0] in FOREIGN_SQLITE
    ]
    assert not breaches, listed(breaches)


def test_a_purchase_loads_no_other_sqlite_library() -> None:
    """Nor does a package we stand on."""
    asked = (
        "import sys, x402_audio.client, x402_audio.ledger.sqlite, x402_audio.jobs.advance, x402_audio.protocol.exact,"
        " eth_account, web3, httpx, rich, soundfile, dotenv, argon2\n"
        "print(sorted({'sqlite3', '_sqlite3', 'pysqlite3'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=HOUSE.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help_import_no_third_party_package(argument: str) -> None:
    asked = (
        "import sys; before = set(sys.modules); sys.argv = ['x402-audio', sys.argv[1]]\n"
        "from x402_audio.cli import main\n"
        "try: code = main()\n"
        "except SystemExit as ended: code = ended.code\n"
        "assert not code, code\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "print(sorted(new), file=sys.stderr)"
    )
    command = [sys.executable, "-c", asked, argument]
    ended = subprocess.run(command, cwd=HOUSE.parent, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr.strip() == "['x402_audio']"


def test_no_file_is_a_drawer() -> None:
    assert [place.file for place in house() if DRAWERS & set(Path(place.file).with_suffix("").parts)] == []


def test_only_the_command_line_prints() -> None:
    breaches = [
        place.at(node)
        for place in house()
        if not place.file.startswith("cli/")
        for node in ast.walk(place.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not breaches, listed(breaches)


def test_no_float_meets_money() -> None:
    breaches = [
        place.at(node)
        for place in house()
        if place.file == "money.py"
        or (room_of(place.file) == "ledger" and place.file not in TIMES_ARE_FLOATS)
        for node in ast.walk(place.tree)
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float")
        or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
    ]
    assert not breaches, listed(breaches)


def test_functions_can_be_read_at_one_look() -> None:
    breaches = [
        f"{place.at(node)} {node.name}: {lines} lines"
        for place in house()
        for node in ast.walk(place.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not breaches, listed(breaches)


def test_only_the_listed_places_catch_everything() -> None:
    breaches = [
        place.at(node)
        for place in house()
        if place.file not in MAY_CATCH_EVERYTHING
        for node in ast.walk(place.tree)
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node.type)
    ]
    assert not breaches, listed(breaches)


def _catches_everything(caught: ast.expr | None) -> bool:
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        name is None or (isinstance(name, ast.Name) and name.id in ("Exception", "BaseException"))
        for name in names
    )


def test_every_exception_from_a_rule_is_still_needed() -> None:
    files = {place.file for place in house()}
    assert sorted({*MAY_CATCH_EVERYTHING, *TIMES_ARE_FLOATS} - files) == []


def test_every_module_says_what_it_does() -> None:
    assert [place.file for place in house() if not (ast.get_docstring(place.tree) or "").strip()] == []


def test_nothing_is_silenced() -> None:
    words = ("type: ignore", "noqa", "pragma", "TODO", "FIXME", "fmt: off")
    breaches = [
        f"{path.relative_to(HOUSE.parent)}:{token.start[0]} {token.string}"
        for folder in ("x402_audio", "tests", "benchmarks", "scripts")
        for path in sorted((HOUSE.parent / folder).rglob("*.py"))
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT and any(word in token.string for word in words)
    ]
    assert not breaches, listed(breaches)


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    breaches = [
        f"{path.name}:{node.lineno}"
        for path in sorted(Path(__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail", "importorskip")
    ]
    assert not breaches, listed(breaches)
