"""What tests of the command share."""

from __future__ import annotations

import pytest

from tests.support.cli import Cli
from tests.support.node import Node


@pytest.fixture
def cli(node: Node) -> Cli:
    """The command on the node."""
    return Cli(node.host, node.openvswitch.remote)
