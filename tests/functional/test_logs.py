"""What the plugin makes ovsdb-server write into its log: an operator reads every warning there."""

from __future__ import annotations

import time

import pytest

from tests.support.node import Node


@pytest.mark.one_target
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_no_command_makes_ovsdb_server_warn(private_node: Node, kind: str) -> None:
    """ovs-vswitchd does: of a device that is in the container, or went before its row was looked at."""
    node = private_node
    log = node.openvswitch.folder / "ovsdb-server.log"
    start = log.stat().st_size
    for _ in range(10):
        pod = node.attached(interface_type=kind, ipam=node.host_local())
        pod.status().silent()
        pod.check().silent()
        pod.delete().silent()
    gone = node.attached(interface_type=kind, ipam=node.host_local())
    gone.gc(**{"cni.dev/valid-attachments": []}).silent()
    node.assert_nothing_left()
    time.sleep(0.3)  # ovsdb-server learns of the end of the last connection
    assert not [line for line in log.read_text()[start:].splitlines() if "|WARN|" in line or "|ERR|" in line]
