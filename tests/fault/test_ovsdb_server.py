"""ovsdb-server is gone, stands still, or comes back."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]


@pytest.mark.contract(27)
def test_add_says_try_again_later_when_the_database_is_gone(private_node: Node) -> None:
    pod = private_node.attachment(ipam=private_node.host_local(), timeout=5)
    private_node.openvswitch.ovsdb_server.kill()
    outcome = pod.add()
    assert private_node.openvswitch.socket in outcome.error(11)["msg"]
    assert pod.sandbox.links().keys() == pod.sandbox.initial_devices
    assert private_node.addresses_given_out() == []
    private_node.openvswitch.start_ovsdb_server()
    private_node.assert_nothing_left()


@pytest.mark.contract(8, 27)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_every_command_ends_within_its_timeout_when_the_database_stands_still(private_node: Node, command: str) -> None:
    pod = private_node.attached(timeout=2)
    if command == "ADD":
        pod = private_node.attachment(timeout=2)
    private_node.openvswitch.ovsdb_server.freeze()
    outcome = pod.run(command)
    outcome.error(11)
    assert outcome.seconds < 4
    private_node.openvswitch.ovsdb_server.thaw()


@pytest.mark.contract(23)
@pytest.mark.parametrize("how", ["gone", "still"])
def test_status_names_the_database_and_is_quick_about_it(private_node: Node, how: str) -> None:
    pod = private_node.attachment()
    server = private_node.openvswitch.ovsdb_server
    server.kill() if how == "gone" else server.freeze()
    outcome = pod.status()
    error = outcome.error(50)
    assert private_node.openvswitch.socket in error["msg"] and "\n" not in error["msg"]
    assert outcome.seconds < 1.5
    if how == "gone":
        private_node.openvswitch.start_ovsdb_server()
    else:
        server.thaw()
    pod.status().silent()


@pytest.mark.contract(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("namespace_gone", [False, True], ids=["namespace-there", "namespace-gone"])
def test_del_undoes_what_it_can_without_the_database_and_the_next_del_finishes_the_job(
    private_node: Node, kind: str, namespace_gone: bool
) -> None:
    pod = private_node.attached(interface_type=kind, ipam=private_node.host_local(), timeout=5)
    name = private_node.port(pod)["name"]
    if namespace_gone:
        pod.sandbox.delete()
    private_node.openvswitch.ovsdb_server.kill()
    pod.delete().error(11)
    if kind == "veth":
        assert private_node.addresses_given_out() == []
        assert name not in private_node.host.links()
        assert namespace_gone or "net1" not in pod.sandbox.links()
    else:  # its device is Open vSwitch's; while it may still use its address, nobody else may get that
        assert private_node.addresses_given_out() == ["10.10.0.2"]
    pod.delete().error(11)
    private_node.openvswitch.start_ovsdb_server()
    assert [row["name"] for row in private_node.ports()] == [name]
    pod.delete().silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(24)
def test_gc_says_try_again_later_and_the_next_one_removes_everything(private_node: Node) -> None:
    pod = private_node.attached(ipam=private_node.host_local(), timeout=5)
    private_node.openvswitch.ovsdb_server.kill()
    pod.gc(**{"cni.dev/valid-attachments": []}).error(11)
    private_node.openvswitch.start_ovsdb_server()
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    private_node.assert_nothing_left()


@pytest.mark.contract(14)
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_dies_during_an_add_is_an_error_and_del_removes_what_it_kept(
    private_node: Node, kind: str
) -> None:
    """The IPAM plugin kills it; by then the port's rows have been written."""
    server = private_node.openvswitch.ovsdb_server
    ipam = private_node.scripted_ipam()
    ipam.act(ADD=f"kill -9 {server.pid}\n{ipam.answer('10.77.0.2/24')}")
    pod = private_node.attachment(
        cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder), timeout=5
    )
    outcome = pod.add()
    if outcome.exit_code != 0:  # it may also have had all answers that it needs
        outcome.error(11)
        assert ipam.calls == ["ADD", "DEL"]
        assert pod.sandbox.links().keys() == pod.sandbox.initial_devices or kind == "internal"
    server.kill()
    private_node.openvswitch.start_ovsdb_server()
    pod.delete().silent()
    private_node.assert_nothing_left()


class _Rubbish:
    """A real unix socket whose server answers every connection with the same bytes."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.mark.contract(1, 27)
@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n", b"{", b"[]", b'{"id": 99, "result": 3, "error": null}', b"\xff" * 100],
    ids=["closes", "http", "cut-off", "list", "foreign-answer", "binary"],
)
def test_a_socket_that_is_no_database_is_an_ordinary_error(
    node: Node, openvswitch: PrivateOpenVSwitch, answer: bytes
) -> None:
    path = openvswitch.folder / "rubbish.sock"
    rubbish = _Rubbish(path, answer)
    try:
        pod = node.attachment(socket_file=str(path), timeout=2)
        for command in ("ADD", "DEL", "STATUS"):
            outcome = pod.run(command)
            error = outcome.error(50 if command == "STATUS" else 11)
            assert str(path) in error["msg"]
            assert outcome.seconds < 4
        node.assert_nothing_left()
    finally:
        rubbish.close()
        path.unlink()
