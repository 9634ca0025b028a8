"""vhost-user ports: on an Open vSwitch with DPDK, where there is one, with a DPDK program in the container.

What does not depend on packets is also tested with an Open_vSwitch row that claims DPDK; the test then plays the part
of ovs-vswitchd. Huge pages and virtual machines are not tested.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import dpdk
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import REPOSITORY, Attachment, Target
from tests.support.processes import wait_for

pytestmark = [pytest.mark.one_target, pytest.mark.userspace]

CLIENT, SERVER = TYPES = ["dpdkvhostuserclient", "dpdkvhostuser"]
MODES = {CLIENT: "server", SERVER: "client"}  # the program's part, which is what the device-information file calls mode


@pytest.fixture
def sockets(private_node: Node) -> Path:
    """A folder for sockets, with a short name."""
    folder = private_node.openvswitch.folder / "vhost"
    folder.mkdir()
    return folder


@pytest.fixture
def dpdk_node(dpdk_openvswitch: dpdk.DpdkOpenVSwitch, target: Target, tmp_path: Path) -> Iterator[Node]:
    made = Node(dpdk_openvswitch, target, tmp_path)
    folder(made).mkdir(exist_ok=True)
    try:
        yield made
        assert list(folder(made).iterdir()) == []
        assert [path for path in dpdk_openvswitch.folder.iterdir() if path.name.startswith("cni")] == []
    finally:
        made.clean()


def folder(node: Node) -> Path:
    """For the sockets that containers serve."""
    return node.openvswitch.folder / "vhost"


def keys(node: Node, kind: str) -> dict[str, Any]:
    """What a configuration of such a port needs."""
    return {"interface_type": kind, **({"sharedDir": str(folder(node))} if kind == CLIENT else {})}


def socket_of(node: Node, pod: Attachment) -> Path:
    """Where the socket of an attachment should be."""
    name = str(node.port(pod)["name"])
    row = node.interface(pod)
    return (folder(node) if row["type"] == CLIENT else node.openvswitch.folder) / name


# With DPDK


@pytest.mark.parametrize("kind", TYPES)
def test_a_port_has_what_the_configuration_says_and_the_result_tells_of_its_socket(dpdk_node: Node, kind: str) -> None:
    node = dpdk_node
    info = node.folder / "devinfo" / "cni" / "file.json"
    pod = node.attached(
        **keys(node, kind),
        vlan=5,
        mtu=1400,
        ofport_request=77,
        external_ids={"team": "shop"},
        ipam=node.host_local("10.10.0.0/16", "fd00:10::/64"),
        runtimeConfig={"mac": "02:00:00:00:00:0a", "CNIDeviceInfoFile": str(info)},
    )
    path = socket_of(node, pod)
    port, interface = node.port(pod), node.interface(pod)
    assert (interface["type"], interface["ofport"], interface["mtu_request"]) == (kind, 77, 1400)
    assert interface["options"] == ({"vhost-server-path": str(path)} if kind == CLIENT else {})
    assert port["tag"] == 5
    assert port["external_ids"]["team"] == "shop"
    assert port["external_ids"]["contSocketPath"] == str(path)
    assert pod.container_interface == {
        "name": "net1",
        "mac": "02:00:00:00:00:0a",
        "mtu": 1400,
        "sandbox": pod.netns,
        "socketPath": str(path),
    }
    assert len(pod.addresses) == 2
    assert set(pod.sandbox.links()) == pod.sandbox.initial_devices
    assert json.loads(info.read_text()) == {
        "type": "vhost-user",
        "version": "1.1.0",
        "vhost-user": {"mode": MODES[kind], "path": str(path)},
    }
    assert path.is_socket() is (kind == SERVER)
    pod.check().silent()
    pod.status().silent()
    pod.delete().silent()
    assert not info.exists()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", TYPES)
def test_a_dpdk_program_in_the_container_answers_pings_through_the_socket(dpdk_node: Node, kind: str) -> None:
    node = dpdk_node
    pinging = node.attached(ipam=node.host_local(), vlan=7)
    pod = node.attached(**keys(node, kind), ipam=node.host_local(), vlan=7, mtu=1500)
    stranger = node.attached(ipam=node.host_local(), vlan=8)
    assert pod.result is not None
    path = pod.container_interface["socketPath"]
    program = dpdk.start_testpmd(pod.sandbox, node.folder, path, server=kind == CLIENT, mac="02:00:00:00:00:aa")
    try:
        wait_for("the port has a link", lambda: node.interface(pod)["link_state"] == "up", timeout=20)
        pinging.sandbox.run("ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", pod.addresses[0])
        pinging.sandbox.run("ping", "-n", "-c", "1", "-W", "2", "-s", "1472", "-M", "do", pod.addresses[0])
        assert "02:00:00:00:00:aa" in pinging.sandbox.ip("neighbour")
        assert not stranger.sandbox.pings(pod.addresses[0], timeout=1)
        pod.check().silent()
        pod.delete().silent()
    finally:
        program.kill()
        program.communicate(timeout=5)
    for attachment in (pinging, stranger):
        attachment.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", [CLIENT])
def test_a_dpdk_program_sends_and_receives_as_fast_as_it_may(
    dpdk_node: Node, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node, mac, lines = dpdk_node, "02:00:00:00:00:aa", []
    other = node.attached(ipam=node.host_local())
    others_mac = other.sandbox.link(other.ifname).mac
    out = node.folder / "testpmd.out"
    for asked, direction in itertools.product((10, 100), ("sent", "received")):
        limits = {"ingressRate": asked * 1_000_000, "egressRate": asked * 1_000_000}
        pod = node.attached(**keys(node, kind), ipam=node.host_local(), bandwidth=limits)
        sends = direction == "sent"
        mode = ("txonly", "--txpkts=1400", f"--eth-peer=0,{others_mac}") if sends else ("rxonly", "--stats-period=1")
        path = pod.container_interface["socketPath"]
        program = dpdk.start_testpmd(pod.sandbox, node.folder, path, server=kind == CLIENT, mac=mac, mode=mode)
        try:
            wait_for("the port has a link", functools.partial(has_link, node, pod), timeout=20)
            if sends:
                found = most(functools.partial(received_bytes, other), asked)
            else:
                other.sandbox.ip("neighbour", "replace", pod.addresses[0], "lladdr", mac, "dev", other.ifname)
                flood = other.sandbox.start("python3", "-c", FLOOD, pod.addresses[0])
                found = most(functools.partial(told_bytes, out), asked)
                flood.kill()
                flood.communicate(timeout=5)
            pod.check().silent()
        finally:
            program.kill()
            program.communicate(timeout=5)
        pod.delete().silent()
        lines.append(f"{kind}: asked {asked} Mbit/s, {direction} {found:.1f}")
        assert 0.9 * asked < found < 1.1 * asked, (lines, out.read_text()[-2000:])
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 - the figures are what the test is for
    node.assert_nothing_left(keep=[other])


FLOOD = """import socket, sys, time
to, end = socket.socket(type=socket.SOCK_DGRAM), time.monotonic() + 20
while time.monotonic() < end:
    to.sendto(bytes(1400), (sys.argv[1], 9))
"""


def has_link(node: Node, pod: Attachment) -> bool:
    """Whether the program is there."""
    return bool(node.interface(pod)["link_state"] == "up")


def most(counted: Callable[[], int], asked: float) -> float:
    """The most of up to three measurements: both programs poll on two processors, and others may take of these."""
    found = 0.0
    for _ in range(3):
        found = max(found, mbits_per_second(counted))
        if found > 0.9 * asked:
            break
    return found


def mbits_per_second(counted: Callable[[], int]) -> float:
    """What is counted within three seconds, when a burst is over."""
    time.sleep(2)
    before, start = counted(), time.monotonic()
    wait_for("it goes on", lambda: counted() > before)  # some count only once a second
    before, start = counted(), time.monotonic()
    time.sleep(2.5)
    until = counted()
    wait_for("it goes on", lambda: counted() > until)
    return (counted() - before) * 8 / (time.monotonic() - start) / 1e6


def received_bytes(pod: Attachment) -> int:
    """What a container has received."""
    (link,) = json.loads(pod.sandbox.run("ip", "-s", "-j", "link", "show", pod.ifname).stdout)
    return int(link["stats64"]["rx"]["bytes"])


def told_bytes(file: Path) -> int:
    """What testpmd says that it has received."""
    return int(file.read_text().rpartition("RX-bytes:")[2].split()[0])


def test_a_port_whose_socket_the_container_serves_survives_a_crash_of_ovs_vswitchd(dpdk_node: Node) -> None:
    node = dpdk_node
    pod = node.attached(**keys(node, CLIENT))
    node.openvswitch.ovs_vswitchd.kill()
    node.openvswitch.start_ovs_vswitchd()
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


def test_del_removes_the_socket_that_a_killed_ovs_vswitchd_has_left_and_add_works_after_its_start(
    dpdk_node: Node,
) -> None:
    """Not the other way round: an ovs-vswitchd that finds such a socket in its way closes some file of its own."""
    node = dpdk_node
    pod = node.attached(**keys(node, SERVER))
    path = socket_of(node, pod)
    node.openvswitch.ovs_vswitchd.kill()
    assert path.is_socket()
    pod.delete().silent()
    assert not path.exists()
    node.openvswitch.start_ovs_vswitchd()
    pod.result = None
    pod.add().ok()
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", TYPES)
def test_gc_removes_port_socket_and_device_information_of_a_container_that_is_gone(dpdk_node: Node, kind: str) -> None:
    node = dpdk_node
    info = node.folder / "file.json"
    pod = node.attached(**keys(node, kind), ipam=node.host_local(), runtimeConfig={"CNIDeviceInfoFile": str(info)})
    path = socket_of(node, pod)
    if kind == CLIENT:
        _serve(path).close()
    pod.sandbox.delete()
    del pod.config["runtimeConfig"]
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert not path.exists() and not info.exists()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", TYPES)
def test_an_add_that_fails_after_the_port_was_made_leaves_nothing(dpdk_node: Node, kind: str) -> None:
    node = dpdk_node
    ipam = node.scripted_ipam(ADD="exit 1")
    info = node.folder / "file.json"
    pod = node.attachment(
        **keys(node, kind),
        cniVersion="1.0.0",
        ipam=ipam.config,
        cni_path=str(ipam.folder),
        runtimeConfig={"CNIDeviceInfoFile": str(info)},
    )
    pod.add().error(104)
    assert ipam.calls == ["ADD", "DEL"]
    assert not info.exists()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", TYPES)
def test_del_removes_what_a_killed_add_has_made(dpdk_node: Node, kind: str) -> None:
    node = dpdk_node
    ipam = node.scripted_ipam(ADD="exec sleep 60")
    pod = node.attachment(**keys(node, kind), cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    adding = pod.start("ADD")
    wait_for("ovs-vswitchd has the port", lambda: [r for r in node.ports() if node.interface(pod)["ofport"] != []])
    wait_for("IPAM is asked", lambda: ipam.calls == ["ADD"])
    adding.signal(signal.SIGKILL)
    os.kill(ipam.pid("ADD"), signal.SIGKILL)
    adding.wait()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", TYPES)
def test_a_second_add_of_the_same_namespace_is_refused_and_one_of_a_new_namespace_replaces_the_first(
    dpdk_node: Node, kind: str
) -> None:
    """The second is what a runtime does after a reboot that keeps its containers."""
    node = dpdk_node
    pod = node.attached(**keys(node, kind))
    pod.add().error(102)
    pod.check().silent()
    pod.sandbox.delete()
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    pod.add().ok()
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


def test_the_example_attaches_containers_in_one_folder(dpdk_node: Node) -> None:
    node = dpdk_node
    first, second = (_example(node) for _ in range(2))
    for pod in (first, second):
        pod.add().ok()
    assert [pod.addresses for pod in (first, second)] == [["10.108.0.2"], ["10.108.0.3"]]
    assert first.container_interface["socketPath"] != second.container_interface["socketPath"]
    assert node.port(first)["tag"] == 100
    for pod in (first, second):
        pod.check().silent()
        pod.status().silent()
        pod.delete().silent()
    node.assert_nothing_left()


def _example(node: Node) -> Attachment:
    """What conf/ has for such ports, with another bridge, and folders of the test's own."""
    network = json.loads((REPOSITORY / "conf/vhost-user.conflist").read_text())
    [plugin] = network.pop("plugins")
    assert plugin["sharedDir"] == "/var/lib/vhost_sockets" and plugin["bridge"] == "br-cni"
    plugin["ipam"]["dataDir"] = str(node.address_files)
    return node.attachment(**{**plugin, **network, "bridge": node.bridge, "sharedDir": str(folder(node))})


def test_before_version_1_1_0_the_result_does_not_tell_of_the_socket(dpdk_node: Node) -> None:
    node = dpdk_node
    pod = node.attached(**keys(node, CLIENT), cniVersion="1.0.0")
    assert pod.container_interface == {"name": "net1", "sandbox": pod.netns}
    pod.check().silent()
    pod.delete().silent()


def test_a_folder_in_which_ovs_vswitchd_makes_no_sockets_is_told(dpdk_node: Node) -> None:
    pod = dpdk_node.attachment(interface_type=SERVER, sharedDir=str(folder(dpdk_node)))
    assert "sharedDir" in pod.add().error(7)["details"]
    dpdk_node.assert_nothing_left()


# Without


@pytest.mark.parametrize("kind", TYPES)
def test_an_open_vswitch_without_dpdk_is_refused_before_anything_is_made(
    private_node: Node, sockets: Path, kind: str
) -> None:
    ipam = private_node.scripted_ipam()
    pod = private_node.attachment(
        **keys(private_node, kind), cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder)
    )
    error = pod.add().error(7)
    assert f"'interface_type' {kind!r}" in error["msg"] and "DPDK" in error["msg"]
    assert "dpdk-init=true" in error["details"]
    assert ipam.calls == []
    pod.delete().silent()
    private_node.assert_nothing_left()


def test_the_example_is_refused_without_dpdk(private_node: Node, sockets: Path) -> None:
    assert "DPDK" in _example(private_node).add().error(7)["msg"]


def _claim_dpdk(switch: PrivateOpenVSwitch) -> None:
    switch.ovs_vswitchd.stop()
    words = ("dpdk_initialized=true", f"iface_types=system,{CLIENT},{SERVER}")
    switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", *words)


def _catch_up(switch: PrivateOpenVSwitch) -> None:
    """Says, as ovs-vswitchd would, that all changes are carried out."""
    number = switch.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg")
    switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"cur_cfg={number}")


def _add(pod: Attachment, switch: PrivateOpenVSwitch, *, socket: Path | None = None) -> None:
    """ADD, while the test gives the port an OpenFlow number as ovs-vswitchd would, and serves the socket, if so."""
    served = []
    _catch_up(switch)

    def play() -> None:
        name = wait_for("the port is there", lambda: [r["name"] for r in switch.rows("Port") if r["name"][:3] == "cni"])
        if socket is not None:
            served.append(_serve(socket / name[0]))
        switch.vsctl("--no-wait", "set", "Interface", name[0], "ofport=3")

    player = threading.Thread(target=play)
    player.start()
    try:
        pod.add().ok()
    finally:
        player.join(20)
        for each in served:
            each.close()


def _serve(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    return listening


@pytest.mark.parametrize("kind", TYPES)
def test_the_files_of_a_port_go_with_it_and_are_found_in_open_vswitch_alone(
    private_node: Node, sockets: Path, kind: str
) -> None:
    node = private_node
    info = node.folder / "new" / "folder" / "file.json"
    _claim_dpdk(node.openvswitch)
    place = sockets if kind == CLIENT else node.openvswitch.folder
    pod = node.attachment(**keys(node, kind), runtimeConfig={"CNIDeviceInfoFile": str(info)})
    _add(pod, node.openvswitch, socket=place)
    path = socket_of(node, pod)
    assert path.is_socket()
    assert json.loads(info.read_text())["vhost-user"] == {"mode": MODES[kind], "path": str(path)}
    pod.check().silent()
    del pod.config["runtimeConfig"]
    pod.config.pop("sharedDir", None)
    pod.result = None
    pod.delete().silent()
    assert not path.exists() and not info.exists()
    node.assert_nothing_left()


def test_what_is_left_over_of_a_socket_is_replaced_and_another_file_is_not(private_node: Node, sockets: Path) -> None:
    node = private_node
    _claim_dpdk(node.openvswitch)
    pod = node.attachment(**keys(node, CLIENT))
    _add(pod, node.openvswitch)
    path = socket_of(node, pod)
    pod.delete().silent()
    _serve(path).close()
    _add(pod, node.openvswitch)
    assert not path.exists()
    pod.delete().silent()
    path.write_text("precious")
    _catch_up(node.openvswitch)
    assert str(path) in pod.add().error(102)["msg"]
    assert path.read_text() == "precious"
    pod.delete().silent()
    assert path.read_text() == "precious"
    node.assert_nothing_left()


def test_del_removes_no_file_that_only_a_row_in_open_vswitch_calls_ours(private_node: Node, sockets: Path) -> None:
    node = private_node
    _claim_dpdk(node.openvswitch)
    pod = node.attachment(**keys(node, CLIENT))
    _add(pod, node.openvswitch)
    name = node.port(pod)["name"]
    other, text = sockets / "other.sock", sockets / "file.json"
    serving = _serve(other)
    text.write_text("{}")
    ids = (f"external_ids:contSocketPath={other}", f"external_ids:contDeviceInfoFile={text}")
    node.openvswitch.vsctl("--no-wait", "set", "Port", name, *ids)
    pod.delete().silent()
    assert other.exists() and text.exists()
    serving.close()


def test_a_device_information_file_of_somebody_else_stays_as_it_is(private_node: Node, sockets: Path) -> None:
    node = private_node
    info = node.folder / "file.json"
    info.write_text('{"type": "pci"}')
    _claim_dpdk(node.openvswitch)
    pod = node.attachment(**keys(node, CLIENT), runtimeConfig={"CNIDeviceInfoFile": str(info)})
    _add(pod, node.openvswitch)
    pod.delete().silent()
    assert info.read_text() == '{"type": "pci"}'


@pytest.mark.parametrize(
    ("mode", "owner", "said"),
    [(0o777, 0, "everybody can write"), (0o755, 65534, "belongs to user 65534"), (None, 0, "No such file")],
)
def test_a_folder_in_which_others_could_replace_a_socket_is_refused(
    private_node: Node, sockets: Path, mode: int | None, owner: int, said: str
) -> None:
    _claim_dpdk(private_node.openvswitch)
    if mode is None:
        sockets.rmdir()
    else:
        sockets.chmod(mode)
        os.chown(sockets, owner, 0)
    error = private_node.attachment(**keys(private_node, CLIENT)).add().error(7)
    assert "'sharedDir'" in error["msg"] and said in error["msg"]
    private_node.assert_nothing_left()


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"sharedDir": None}, ["'sharedDir' is missing"]),
        ({"sharedDir": "vhost"}, ["'sharedDir'", "absolute path"]),
        ({"sharedDir": "/"}, ["'sharedDir'", "root folder"]),
        ({"sharedDir": "/" + 91 * "x"}, ["'sharedDir'", "at most 91 bytes"]),
        ({"sharedDir": 3}, ["'sharedDir'", "must be a string"]),
        ({"runtimeConfig": {"CNIDeviceInfoFile": "file"}}, ["CNIDeviceInfoFile", "absolute path"]),
        ({"ipam": {"type": "dhcp"}}, ["'dhcp'", CLIENT]),
    ],
)
def test_a_mistake_in_the_keys_of_these_ports_names_key_and_what_is_allowed(
    node: Node, changes: dict[str, Any], texts: list[str]
) -> None:
    config = {"interface_type": CLIENT, "sharedDir": "/run/vhost", **changes}
    error = node.attachment(cni_path="/usr/lib/cni", cniVersion="1.0.0", **config).add().error(7)
    for text in texts:
        assert text in error["msg"], error
    node.assert_nothing_left()


def test_the_kernels_datapath_is_refused(private_node: Node, sockets: Path) -> None:
    _claim_dpdk(private_node.openvswitch)
    private_node.openvswitch.vsctl("--no-wait", "set", "Bridge", private_node.bridge, "datapath_type=system")
    error = private_node.attachment(**keys(private_node, CLIENT)).add().error(7)
    assert "datapath_type=netdev" in error["msg"]
