"""What tests of the command share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.doctor import Doctor
from tests.support.node import Node


@pytest.fixture
def cli(node: Node) -> Cli:
    """The command on the node."""
    return Cli(node.host, node.openvswitch.remote)


@pytest.fixture
def doctor(node: Node, tmp_path: Path) -> Doctor:
    """The doctor of the node."""
    return Doctor(node, tmp_path)


@pytest.fixture
def private_doctor(private_node: Node, tmp_path: Path) -> Doctor:
    """The doctor of a node with an Open vSwitch of its own."""
    return Doctor(private_node, tmp_path)
