"""The `dhcp` IPAM plugin with its daemon, and dnsmasq as a real DHCP server in another container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ipam import cni_path, static
from tests.support.node import Node
from tests.support.plugin import Attachment, Json
from tests.support.processes import wait_for


@pytest.fixture
def daemon(node: Node, version: str) -> Iterator[Json]:
    """The dhcp plugin's daemon on the host; the value is the `ipam` section that uses it."""
    socket = node.folder / "dhcp.sock"
    process = node.host.start(Path(cni_path(version)) / "dhcp", "daemon", "-socketpath", socket)
    node.helper(process.pid)
    try:
        wait_for("the daemon listens", socket.exists)
        yield {"type": "dhcp", "daemonSocketPath": str(socket)}
    finally:
        process.kill()
        process.communicate(timeout=5)


def _server(node: Node) -> Attachment:
    """A container with dnsmasq, which gives out 10.1.0.50 to .99 with itself as the router."""
    server = node.attached(ipam=static("10.1.0.1/24"))
    server.sandbox.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--interface=net1"),
        *("--dhcp-range=10.1.0.50,10.1.0.99,255.255.255.0,1h", "--dhcp-authoritative", "--no-ping"),
        *(f"--pid-file={node.folder}/dnsmasq.pid", f"--dhcp-leasefile={node.folder}/leases"),
    )
    wait_for("dnsmasq listens", lambda: ":67 " in server.sandbox.run("ss", "-Hlun").stdout)
    return server


@pytest.mark.one_target
@pytest.mark.contract(26)
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_dhcp_leases_an_address_and_gives_it_back(node: Node, daemon: Json, version: str, kind: str) -> None:
    server = _server(node)
    pod = node.attachment(cniVersion=version, interface_type=kind, ipam=daemon)
    pod.add().ok()
    (address,) = pod.addresses
    assert address.startswith("10.1.0.") and 50 <= int(address.rpartition(".")[2]) <= 99
    assert pod.sandbox.address_texts("net1") == {f"{address}/24"}
    assert pod.sandbox.pings("10.1.0.1")
    assert server.sandbox.pings(address)
    assert pod.sandbox.route("0.0.0.0/0").gateways == ("10.1.0.1",)
    leases = node.folder / "leases"
    assert address in leases.read_text()
    pod.check().silent()
    pod.delete().silent()
    server.delete().silent()
    for pid in server.sandbox.processes():
        node.helper(pid)
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize("version", ["1.1.0"])
def test_dhcp_leases_an_address_to_a_container_that_may_send_from_no_other(node: Node, daemon: Json, kind: str) -> None:
    server = _server(node)
    pod = node.attachment(interface_type=kind, ipam=daemon, macspoofchk=True, ipspoofchk=True)
    pod.add().ok()
    assert pod.sandbox.pings("10.1.0.1")
    pod.sandbox.ip("address", "add", "10.1.0.7/24", "dev", "net1")
    assert pod.sandbox.run("ping", "-c1", "-W1", "-I", "10.1.0.7", "10.1.0.1", check=False).returncode == 1
    pod.check().silent()
    pod.delete().silent()
    for pid in server.sandbox.processes():
        node.helper(pid)


@pytest.mark.contract(26, 14)
@pytest.mark.one_target
@pytest.mark.parametrize("version", ["1.1.0"])
def test_without_a_dhcp_server_add_ends_with_the_timeout_and_leaves_nothing(node: Node, daemon: Json) -> None:
    pod = node.attachment(ipam=daemon, timeout=3)
    outcome = pod.add()
    outcome.error(11)
    assert outcome.seconds < 6
    node.assert_nothing_left()


@pytest.mark.contract(26, 25)
@pytest.mark.one_target
def test_a_dhcp_daemon_that_does_not_run_is_reported_by_its_plugin(node: Node) -> None:
    pod = node.attachment(ipam={"type": "dhcp", "daemonSocketPath": str(node.folder / "no.sock")})
    assert "no.sock" in pod.add().error()["msg"]
    node.assert_nothing_left()
