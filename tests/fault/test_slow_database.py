"""A database whose answers do not come: what was sent is carried out later, and must not leave anything."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.plugin import Attachment

KINDS = ["veth", "internal"]


class Relay:
    """A socket in front of ovsdb-server's that lets one exchange pass, and then keeps what it is sent."""

    def __init__(self, path: Path, server: str) -> None:
        """Listens at `path` for one client."""
        self.remote = f"unix:{path}"
        self.kept = b""
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(server)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(30)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(30)
        with client:
            self._server.sendall(client.recv(1 << 20))
            client.sendall(self._server.recv(1 << 20))
            while data := client.recv(1 << 20):
                self.kept += data

    def release(self) -> None:
        """Hands on all that was kept, once the client has gone, and waits until ovsdb-server has carried it out.

        It begins the requests of one connection in their order, so its echo comes when the others are done.
        """
        self._thread.join(30)
        self._server.settimeout(30)
        self._server.sendall(self.kept + b'{"method": "echo", "params": ["all done"], "id": "end"}')
        answers = b""
        while b"all done" not in answers:
            received = self._server.recv(1 << 20)
            assert received, f"ovsdb-server closed the connection after {answers!r}"
            answers += received

    def close(self) -> None:
        """Closes everything."""
        self._listener.close()
        self._thread.join(30)
        self._server.close()


@pytest.fixture
def relay(node: Node) -> Iterator[Relay]:
    made = Relay(node.openvswitch.folder / f"{node.bridge}.sock", node.openvswitch.socket)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.contract(14)
@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_an_add_that_timed_out_leaves_no_port_when_its_requests_are_carried_out_later(
    node: Node, relay: Relay, kind: str
) -> None:
    pod = node.attachment(interface_type=kind, ipam=node.host_local(), timeout=2, socket_file=relay.remote)
    outcome = pod.add()
    outcome.error(11)
    assert outcome.seconds < 4
    assert b'"insert"' in relay.kept
    before = node.openvswitch.row("Bridge", node.bridge)["ports"]
    relay.release()
    assert node.openvswitch.row("Bridge", node.bridge)["ports"] == before
    node.assert_nothing_left()


@pytest.mark.contract(20)
@pytest.mark.one_target
def test_del_returns_the_address_although_the_database_stands_still(private_node: Node) -> None:
    node = private_node
    pod = node.attached(ipam=node.host_local(), timeout=4)
    node.openvswitch.ovsdb_server.freeze()
    try:
        outcome = pod.delete()
        outcome.error(11)
        assert outcome.seconds < 5
        assert node.addresses_given_out() == []
        assert list(pod.sandbox.links()) == ["lo"]
    finally:
        node.openvswitch.ovsdb_server.thaw()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_an_insertion_that_open_vswitch_refuses_is_told_at_once(node: Node, kind: str) -> None:
    """A bond of somebody else has an interface of our port's name; no port has it."""
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    name = node.port(pod)["name"]
    pod.delete().silent()
    node.openvswitch.vsctl("--no-wait", "add-bond", node.bridge, f"bond-{node.bridge[-8:]}", name, "no-such-device")
    outcome = _undisturbed(pod)
    node.openvswitch.vsctl("--no-wait", "del-port", node.bridge, f"bond-{node.bridge[-8:]}")
    assert name in outcome
    node.assert_nothing_left()


def _undisturbed(pod: Attachment) -> str:
    outcome = pod.add()
    message: str = outcome.error(102)["msg"]
    assert outcome.seconds < 2
    assert "undoing" not in outcome.stderr
    return message


@pytest.mark.one_target
def test_a_database_before_its_initialisation_is_asked_again_later(private_node: Node) -> None:
    node = private_node
    node.openvswitch.ovs_vswitchd.stop()
    pod = node.attachment(timeout=3)
    node.openvswitch.vsctl("--no-wait", "emer-reset")
    transaction = '["Open_vSwitch", {"op": "delete", "table": "Open_vSwitch", "where": []}]'
    node.host.run("ovsdb-client", "transact", node.openvswitch.remote, transaction)
    assert "not initialised" in pod.add().error(11)["msg"]
    pod.delete().silent()


@pytest.mark.contract(24)
@pytest.mark.one_target
def test_gc_reaches_the_ipam_plugin_although_the_database_stands_still(private_node: Node) -> None:
    node = private_node
    ipam = node.scripted_ipam()
    pod = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder), timeout=4)
    node.openvswitch.ovsdb_server.freeze()
    try:
        outcome = pod.gc(**{"cni.dev/valid-attachments": []})
        outcome.error(11)
        assert outcome.seconds < 5
        assert ipam.calls == ["GC"]
    finally:
        node.openvswitch.ovsdb_server.thaw()
