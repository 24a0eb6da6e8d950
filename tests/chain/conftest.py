"""Nodes that are honest until a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.chain.node import Node, open_node


@pytest.fixture
def new_node() -> Iterator[Callable[[], Node]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(open_node())


@pytest.fixture
def node(new_node: Callable[[], Node]) -> Node:
    return new_node()
