"""A container under podman 4 with its CNI back end, which converts results to 0.4.0 and detaches from its cache."""

from __future__ import annotations

import secrets
import subprocess

import pytest

from tests.runtime.podman import Podman
from tests.support.node import Node
from tests.support.processes import wait_for

READY = "ready"


@pytest.mark.parametrize("interface_type", ["veth", "internal"])
def test_a_container_of_podman_reaches_another_attachment_and_leaves_nothing_at_its_end(
    podman: Podman, node: Node, interface_type: str
) -> None:
    config = node.config(ipam=node.host_local("10.50.0.0/24", "fd00:50::/64"), interface_type=interface_type)
    podman.network(config)
    peer = node.attached(ipam=config["ipam"], cniVersion="1.0.0")

    name = f"box-{secrets.token_hex(4)}"
    wait = f"/bin/busybox ip addr show eth0; /bin/busybox echo {READY}; exec /bin/busybox sleep 60"
    process = subprocess.Popen(
        podman.command(*podman.container(name, "/bin/busybox", "sh", "-c", wait)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        while READY not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        (port,) = (row for row in node.ports() if row["external_ids"]["contIface"] == "eth0")
        assert node.openvswitch.row("Interface", port["name"])["type"] == interface_type.replace("veth", "")
        own = set(node.addresses_given_out()) - set(peer.addresses)
        assert len(own) == 2
        for address in own:
            assert f" {address}/" in printed
            assert peer.sandbox.pings(address)
        for address in peer.addresses:
            podman.run("exec", name, "/bin/busybox", "ping", "-c", "1", "-W", "5", address)
        podman.run("kill", name)
        process.wait(20)
    finally:
        process.kill()
        process.communicate(timeout=10)

    wait_for("podman's helpers have ended", lambda: not node.strangers())
    node.assert_nothing_left(keep=[peer])
    peer.delete().silent()
    node.assert_nothing_left()
