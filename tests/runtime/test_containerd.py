"""A container under containerd: `ctr run --cni` attaches it with this plugin and detaches it at its end."""

from __future__ import annotations

import secrets
import subprocess

import pytest

from tests.runtime.containerd import Containerd
from tests.support import ipam
from tests.support.node import Node
from tests.support.processes import wait_for

# What a container prints when its process runs, followed by a wait for its end.
READY = "ready"
WAIT = ("/bin/busybox", "sh", "-c", f"/bin/busybox echo {READY}; exec /bin/busybox sleep 60")


@pytest.fixture
def name() -> str:
    """A name for a container, and its full id as ctr tells it to CNI."""
    return f"box-{secrets.token_hex(4)}"


def test_a_container_of_containerd_reaches_another_attachment_and_leaves_nothing_at_its_end(
    containerd: Containerd, node: Node, name: str
) -> None:
    config = node.config(ipam=node.host_local("10.40.0.0/24", "fd00:40::/64"), vlan=40)
    containerd.network(config, ipam.DEBIAN)
    peer = node.attached(ipam=config["ipam"], vlan=40, cniVersion="1.0.0")

    process = subprocess.Popen(
        containerd.command(*containerd.run_words(name, *WAIT)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == READY
        (port,) = (row for row in node.ports() if row["external_ids"]["contIface"] == "eth0")
        assert port["external_ids"]["contID"] == f"default-{name}"
        assert port["tag"] == 40
        inside = ("tasks", "exec", "--exec-id", secrets.token_hex(4), name, "/bin/busybox")
        for address in peer.addresses:
            containerd.ctr(*inside, "ping", "-c", "1", "-W", "5", address)
        own = set(node.addresses_given_out()) - set(peer.addresses)
        assert len(own) == 2
        for address in own:
            assert peer.sandbox.pings(address)
        containerd.ctr("tasks", "kill", "--signal", "SIGKILL", name)
        process.wait(20)
    finally:
        process.kill()
        process.communicate(timeout=10)

    node.assert_nothing_left(keep=[peer])
    peer.delete().silent()
    node.assert_nothing_left()


def test_the_del_after_a_containers_end_comes_without_a_namespace_and_removes_everything(
    containerd: Containerd, node: Node, name: str
) -> None:
    scripted = node.scripted_ipam()
    containerd.network(node.config(ipam=scripted.config), str(scripted.folder))
    done = containerd.ctr(*containerd.run_words(name, "/bin/busybox", "ip", "addr", "show", "eth0"))
    assert "inet 10.77.0.2/24" in done.stdout
    assert scripted.calls == ["ADD", "DEL"]
    assert scripted.environment("DEL").get("CNI_NETNS", "") == ""
    node.assert_nothing_left()


def test_a_container_that_cannot_be_attached_does_not_start_and_the_reason_is_shown(
    containerd: Containerd, node: Node, name: str
) -> None:
    containerd.network(node.config(bridge="br-missing"))
    done = containerd.ctr(*containerd.run_words(name, "/bin/busybox", "echo", "started"), check=False)
    assert done.returncode != 0
    assert "started" not in done.stdout
    assert "br-missing" in done.stderr
    containerd.remove_containers()  # ctr leaves the container behind that it could not start
    wait_for("its shim has ended", lambda: not node.strangers())
    node.assert_nothing_left()
