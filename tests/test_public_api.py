"""What `import x402_audio` promises: the names, where they come from, and that asking for none of them costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import x402_audio
from x402_audio import errors


@pytest.mark.parametrize("name", x402_audio.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(x402_audio, name) is not None


def test_every_error_is_public() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert ours - set(x402_audio.__all__) == set()


def test_no_name_is_public_twice() -> None:
    assert len(set(x402_audio.__all__)) == len(x402_audio.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = x402_audio.no_such_name


def test_importing_the_package_imports_nothing_else() -> None:
    asked = (
        "import sys; before = set(sys.modules); import x402_audio; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    root = Path(x402_audio.__file__).parents[1]
    command = [sys.executable, "-c", asked]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "['x402_audio']"
