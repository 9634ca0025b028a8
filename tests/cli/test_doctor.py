"""`cni-ovs doctor`: what it says of a healthy machine, of Open vSwitch's daemons, and of many faults at once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import PYTHON
from tests.support.doctor import Doctor
from tests.support.openvswitch import SCHEMA, Daemon
from tests.support.plugin import REPOSITORY
from tests.support.processes import run, wait_for
from tests.support.recording import Relay

pytestmark = pytest.mark.one_target

OVN_SCHEMA = "/usr/share/ovn/ovn-nb.ovsschema"


@pytest.fixture
def other_server(request: pytest.FixtureRequest, doctor: Doctor, tmp_path: Path) -> Iterator[Daemon]:
    """An ovsdb-server with another schema, which the doctor is told to use."""
    run(["ovsdb-tool", "create", tmp_path / "other.db", request.param(tmp_path)])
    path = doctor.node.openvswitch.folder / "other" / "db.sock"
    path.parent.mkdir(exist_ok=True)
    words = ["ovsdb-server", str(tmp_path / "other.db"), f"--remote=punix:{path}", "-vconsole:off"]
    server = Daemon([*words, f"--unixctl={tmp_path}/other.ctl"], tmp_path)
    server.start()
    wait_for("it listens", path.exists)
    doctor.cli.environment["CNI_OVS_DB"] = f"unix:{path}"
    (doctor.configurations / "10-net.conflist").unlink()  # it names a bridge that is not there
    yield server
    server.stop()


def old_schema(folder: Path) -> Path:
    """That of an Open vSwitch before 2.6."""
    schema = json.loads(Path(SCHEMA).read_text())
    del schema["tables"]["Interface"]["columns"]["mtu_request"]
    (folder / "old.ovsschema").write_text(json.dumps(schema))
    return folder / "old.ovsschema"


def test_it_is_silent_and_quick_on_a_healthy_machine_with_several_attachments(doctor: Doctor) -> None:
    node = doctor.node
    node.attached(ipam=node.host_local())
    node.attached(ipam=node.host_local(), interface_type="internal")
    node.attached(vlan=7, mtu=1400)
    node.attached(trunk=[{"id": 7}, {"minID": 20, "maxID": 22}], macspoofchk=True)
    start = time.monotonic()
    doctor.is_silent()
    assert time.monotonic() - start < 3
    found = doctor.examines()
    assert found["result"] == "healthy" and found["findings"] == []
    made = {check["check"] for check in found["checks"] if check["result"] == "ok"}
    assert {"database", "devices", "mtu", "vlans", "offload", "spoofing_rules", "addresses_held", "plugin"} <= made


def test_it_tells_that_ovsdb_server_is_not_running(private_doctor: Doctor) -> None:
    openvswitch = private_doctor.node.openvswitch
    openvswitch.ovsdb_server.kill()
    finding = private_doctor.finds("database_unreachable", code=4)
    assert finding["message"].endswith(": Connection refused")
    assert finding["command"].startswith("systemctl start openvswitch")
    openvswitch.start_ovsdb_server()
    private_doctor.is_silent()


def test_it_tells_that_ovsdb_server_stands_still_and_how_to_let_it_go_on(private_doctor: Doctor) -> None:
    private_doctor.node.openvswitch.ovsdb_server.freeze()
    start = time.monotonic()
    finding = private_doctor.finds("database_stopped", code=4)
    assert time.monotonic() - start < 6
    private_doctor.type_in(finding)
    private_doctor.is_silent()


def test_it_tells_that_ovs_vswitchd_is_not_running(private_doctor: Doctor) -> None:
    openvswitch = private_doctor.node.openvswitch
    private_doctor.node.attached()
    openvswitch.ovs_vswitchd.kill()
    finding = private_doctor.finds("vswitchd_down", code=4)
    assert finding["command"].startswith("systemctl start openvswitch")
    openvswitch.start_ovs_vswitchd()
    private_doctor.is_silent()


def test_it_tells_that_ovs_vswitchd_stands_still_and_how_to_let_it_go_on(private_doctor: Doctor) -> None:
    private_doctor.node.attached()
    private_doctor.node.openvswitch.ovs_vswitchd.freeze()
    finding = private_doctor.finds("vswitchd_stopped", code=4)
    assert finding["command"] == f"kill -CONT {private_doctor.node.openvswitch.ovs_vswitchd.pid}"
    private_doctor.type_in(finding)
    private_doctor.is_silent()


def test_it_tells_that_ovs_vswitchd_lags(private_doctor: Doctor) -> None:
    """It hears nothing of the database, but answers.

    To write another cur_cfg is no lag: ovs-vswitchd corrects it whenever any link of the host changes.
    """
    openvswitch = private_doctor.node.openvswitch
    relay = Relay(openvswitch, private_doctor.node.bridge)
    try:
        openvswitch.ovs_vswitchd.stop()
        openvswitch.start_ovs_vswitchd(relay.remote)
        relay.hold()
        wanted = int(openvswitch.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg")) + 1
        openvswitch.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"next_cfg={wanted}")
        finding = private_doctor.finds("vswitchd_lags", code=3)
        assert f"change {wanted - 1} of {wanted}" in finding["message"]
        relay.go_on()
        private_doctor.is_silent()
    finally:
        openvswitch.ovs_vswitchd.stop()
        relay.close()


@pytest.mark.parametrize("other_server", [old_schema], indirect=True)
def test_it_tells_that_open_vswitch_is_too_old(doctor: Doctor, other_server: Daemon) -> None:
    found = doctor.examines()
    [finding] = [finding for finding in found["findings"] if finding["problem"] == "schema_old"]
    assert "Interface.mtu_request" in finding["message"]
    assert found["exit_code"] == 4


@pytest.mark.parametrize("other_server", [lambda _: SCHEMA], indirect=True)
def test_it_tells_that_the_database_is_empty_and_how_to_begin(doctor: Doctor, other_server: Daemon) -> None:
    [finding, down] = doctor.examines()["findings"]
    assert finding["problem"] == "database_empty" and down["problem"] == "vswitchd_down"
    doctor.type_in(finding)
    doctor.finds("vswitchd_down", code=4)


def test_it_tells_that_nobody_answers_where_somebody_listens(doctor: Doctor) -> None:
    path = doctor.node.openvswitch.folder / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        doctor.cli.environment["CNI_OVS_DB"] = f"unix:{path}"
        assert "timed out after 2 s" in doctor.finds("database_silent", code=4)["message"]


@pytest.mark.parametrize("other_server", [lambda _: OVN_SCHEMA], indirect=True)
def test_it_tells_that_the_database_is_another_one(doctor: Doctor, other_server: Daemon) -> None:
    doctor.finds("database_foreign", code=4)


def test_it_tells_that_a_bridge_of_a_configuration_does_not_exist_and_how_to_make_it(doctor: Doctor) -> None:
    node = doctor.node
    bridge = f"{node.bridge[:-1]}x"
    doctor.configure("20-other.conflist", network="other", bridge=bridge)
    finding = doctor.finds("bridge_missing", code=4)
    assert bridge in finding["message"] and "other" in finding["message"]
    doctor.type_in(finding)
    node._bridges.append(bridge)
    assert node.openvswitch.row("Bridge", bridge)["datapath_type"] == "netdev"
    doctor.is_silent()


@pytest.mark.skipif(Path("/sys/module/openvswitch").exists(), reason="this kernel has openvswitch.ko")
def test_it_tells_that_the_kernel_has_no_module_for_a_bridge(doctor: Doctor) -> None:
    doctor.node.openvswitch.vsctl("--no-wait", "add-br", "br-kernel")
    try:
        finding = doctor.finds("kernel_module_missing", code=4)
        assert finding["command"] == "modprobe openvswitch"
    finally:
        doctor.node.openvswitch.delete_bridges(["br-kernel"])


def test_it_tells_that_ovs_vswitchd_has_not_made_a_bridge(doctor: Doctor) -> None:
    bridge = doctor.node.openvswitch
    bridge.vsctl("--no-wait", "add-br", "br-odd", "--", "set", "bridge", "br-odd", "datapath_type=odd")
    try:
        assert "br-odd" in doctor.finds("bridge_not_made", code=4)["message"]
    finally:
        bridge.delete_bridges(["br-odd"])


@pytest.mark.parametrize("protocols", ["", "OpenFlow10", "OpenFlow13"])
def test_it_tells_that_a_bridge_has_no_rules_and_how_to_let_it_switch(doctor: Doctor, protocols: str) -> None:
    node = doctor.node
    node.attached()
    if protocols:
        node.openvswitch.vsctl("set", "bridge", node.bridge, f"protocols={protocols}")
    management = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    node.host.run("ovs-ofctl", "-O", "OpenFlow10,OpenFlow13", "del-flows", management)
    finding = doctor.finds("bridge_drops", code=4)
    assert finding["command"].endswith(f" add-flow {management} actions=NORMAL")
    doctor.type_in(finding)
    doctor.is_silent()


def test_it_tells_whose_rules_a_bridge_waits_for(doctor: Doctor) -> None:
    """Adding a rule by hand would be wrong there."""
    node = doctor.node
    node.attached()
    controller = "tcp:127.0.0.1:6653"
    vsctl = node.openvswitch.vsctl
    vsctl("set-fail-mode", node.bridge, "secure", "--", "set-controller", node.bridge, controller)
    finding = doctor.finds("controller_silent", code=4)
    assert controller in finding["message"] and finding["command"] == ""
    vsctl("del-controller", node.bridge)
    vsctl(
        "set",
        "Open_vSwitch",
        ".",
        "external_ids:ovn-remote=tcp:192.0.2.9:6642",
        f"external_ids:ovn-bridge={node.bridge}",
    )
    try:
        assert "ovn-controller has given" in doctor.finds("controller_silent", code=4)["message"]
    finally:
        for key in ("ovn-remote", "ovn-bridge"):
            vsctl("remove", "Open_vSwitch", ".", "external_ids", key)


def faults(doctor: Doctor) -> None:
    """Five of them, and a note."""
    node = doctor.node
    node.attached(vlan=7)
    node.openvswitch.vsctl("set", "port", doctor.uplink, "trunks=1,2")
    node.host.ip("link", "set", doctor.uplink, "down")
    node.vanish(node.attached())
    doctor.write("30-broken.conf", "{")
    (doctor.plugins / "ovs").chmod(0o644)
    pod = node.attached()
    pod.sandbox.ip("link", "set", "net1", "down")


def in_terminal(command: list[str], environment: dict[str, str], columns: int) -> str:
    """What a program prints on a terminal of so many columns."""
    terminal, stdout = pty.openpty()
    fcntl.ioctl(stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command, stdin=stdout, stdout=stdout, stderr=stdout, env=environment)
    os.close(stdout)
    printed = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        printed += part
    process.wait(10)
    os.close(terminal)
    return printed.decode()


def test_many_faults_at_once_are_told_worst_first_in_the_width_of_the_terminal(doctor: Doctor) -> None:
    faults(doctor)
    environment = {**doctor.cli.environment, "TERM": "dumb"}
    printed = in_terminal(doctor.cli.command(*doctor.words()), environment, 80)
    assert "\x1b" not in printed
    lines = printed.replace("\r", "").splitlines()
    too_long = [line for line in lines if len(line) > 80 and " " in line.strip().removeprefix("to do: ")]
    assert not too_long, printed
    levels = [line.split()[0] for line in lines if line.split() and line.split()[0] in ("fault", "warning")]
    assert levels == ["fault"] * 4 + ["warning"] * 2, printed
    assert lines[-1].startswith("4 faults, 2 warnings; "), printed
    assert len(lines) < 40


def test_of_many_that_one_command_mends_one_is_printed_and_all_of_them_if_it_is_asked_to(doctor: Doctor) -> None:
    node = doctor.node
    node.vanish(*(node.attached() for _ in range(5)))
    done = doctor.cli.run(*doctor.words(), check=False)
    assert done.returncode == 3
    assert done.stdout.count("has no container any more") == 1 and "and 4 more like this" in done.stdout
    done = doctor.cli.run(*doctor.words("--verbose"), check=False)
    assert done.stdout.count("has no container any more") == 5


def test_what_the_database_says_steers_no_terminal(doctor: Doctor) -> None:
    node = doctor.node
    pod = node.attached()
    name = node.port(pod)["name"]
    hostile = "\x1b[2J\x1b]0;owned\x07\r\n\u202e" + "x" * 10_000
    ids = [
        "map",
        [["owner", "cni-ovs"], *([key, hostile] for key in ("contNetns", "contID", "contIface", "contFlows"))],
    ]
    node.openvswitch.transact(
        {"op": "update", "table": "Port", "where": [["name", "==", name]], "row": {"external_ids": ids}}
    )
    node.openvswitch.vsctl("--no-wait", "add-port", node.bridge, "no\x1b[31msuch")
    for words in ((), ("--verbose",), ("--json",), (pod.netns, "--verbose")):
        done = doctor.cli.run(*doctor.words(*words), check=False)
        assert done.returncode in (0, 3, 4) and done.stderr == "", done
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout), ascii(done.stdout)
        assert max(map(len, done.stdout.splitlines())) < 2000 or "--json" in words


def test_the_commands_of_the_documentation_find_a_healthy_machine(doctor: Doctor) -> None:
    page = (REPOSITORY / "docs/command.md").read_text()
    section = page.partition("\n## cni-ovs doctor\n")[2].partition("\n## ")[0]
    commands = [
        line for block in re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S) for line in block.splitlines()
    ]
    assert len(commands) == 3
    web = doctor.node.attached()
    for command in commands:
        program, name, *words = command.split()
        assert (program, name) == ("cni-ovs", "doctor")
        done = doctor.cli.run(*doctor.words(*(web.sandbox.name if word == "web" else word for word in words)))
        assert "healthy: " in done.stdout


def test_it_says_that_it_needs_root() -> None:
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        str(PYTHON),
        "-m",
        "cni_ovs.cli",
        "doctor",
    ]
    done = run(command, env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]}, check=False)
    if "Permission denied" in done.stderr and "setpriv" in done.stderr:
        pytest.skip("another user may not execute the interpreter of this checkout")
    assert done.returncode == 1
    assert "run it as root" in done.stderr
