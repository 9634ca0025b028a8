"""`cni-ovs doctor`: what somebody has changed by hand, and what two containers have that only one may have."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.runtime.machine import PrivateMounts
from tests.support.doctor import Doctor
from tests.support.namespace import Namespace
from tests.support.openvswitch import Row
from tests.support.plugin import Json
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

MAC = "02:00:00:00:00:07"


def port(doctor: Doctor, sandbox: Namespace) -> Row:
    """The port of a container that `cni-ovs attach` has attached."""
    (found,) = [port for port in doctor.node.ports() if port["external_ids"]["contNetns"] == sandbox.path]
    return found


def attached(doctor: Doctor, *words: str) -> Namespace:
    """A container that `cni-ovs attach` has attached by eth1."""
    sandbox = doctor.node.sandbox()
    doctor.cli.run("attach", sandbox.name, "eth1", doctor.node.bridge, *words)
    return sandbox


# Changes


@pytest.mark.parametrize("removed", [["flush"], ["del", "10.1.0.2/24"]], ids=["all", "one"])
def test_an_address_that_was_removed_comes_back_with_its_routes(doctor: Doctor, removed: list[str]) -> None:
    attached(doctor, "--ip", "10.1.0.9/24")
    sandbox = attached(doctor, "--ip", "10.1.0.2/24", "--ip", "fd01::2/64", "--gateway", "10.1.0.1")
    addresses, all_routes = sandbox.address_texts("eth1"), sandbox.routes()
    doctor.is_silent()
    sandbox.ip("address", *removed, "dev", "eth1")
    for words in ((), (sandbox.name,)):
        found = doctor.examines(*words)
        findings = [finding for finding in found["findings"] if finding["level"] != "note"]
        assert {finding["problem"] for finding in findings} == {"address_gone"} and found["exit_code"] == 4
        assert f"eth1 in {sandbox.name} does not have address 10.1.0.2/24 any more" in findings[0]["message"]
    doctor.type_in(findings[0])
    assert sandbox.address_texts("eth1") == addresses
    assert sandbox.routes() == all_routes
    doctor.is_silent()


def test_who_has_another_address_instead_may_mean_it_and_keeps_it_when_the_first_one_comes_back(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    sandbox.ip("address", "add", "10.1.0.77/24", "dev", "eth1")
    doctor.is_silent()
    sandbox.ip("address", "del", "10.1.0.2/24", "dev", "eth1")
    sandbox.ip("address", "replace", "10.1.0.77/24", "dev", "eth1")
    doctor.type_in(doctor.finds("attachment_changed", code=3))
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24", "10.1.0.77/24"}
    doctor.is_silent()


def test_addresses_are_not_missed_that_were_another_containers_when_ovs_vswitchd_took_the_device(
    private_doctor: Doctor,
) -> None:
    """What was taken away on purpose does not come back with the device."""
    sandbox = attached(private_doctor, "--ip", "10.1.0.2/24", "--ip", "10.1.0.100/24", "--type", "internal")
    sandbox.ip("address", "del", "10.1.0.100/24", "dev", "eth1")
    attached(private_doctor, "--ip", "10.1.0.100/24")
    private_doctor.node.openvswitch.ovs_vswitchd.stop()
    private_doctor.node.openvswitch.start_ovs_vswitchd()
    private_doctor.cli.run("reattach", "--all")
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}
    assert "fault" not in {finding["level"] for finding in private_doctor.examines()["findings"]}


@pytest.mark.parametrize("change", ["VLAN", "MAC", "route", "bridge", "type of port"])
def test_what_was_changed_is_found_and_made_as_it_was(doctor: Doctor, change: str) -> None:
    node = doctor.node
    if change == "route":
        path = node.folder / "net.conf"
        routes = [{"dst": "192.168.7.0/24", "gw": "10.1.0.1"}]
        ipam = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}], "routes": routes}
        path.write_text(json.dumps(node.config(cniVersion="1.0.0", ipam=ipam)))
        sandbox = node.sandbox()
        doctor.cli.run("attach", sandbox.name, "eth1", "--from", str(path))
    else:
        sandbox = attached(doctor, "--vlan", "5", "--ip", "10.1.0.2/24")
    doctor.is_silent()
    all_routes = sandbox.routes()
    mac, name, vsctl = sandbox.link("eth1").mac, port(doctor, sandbox)["name"], node.openvswitch.vsctl
    if change == "VLAN":
        vsctl("set", "port", name, "tag=6")
        expected = f"VLAN of port '{name}' differs: expected 5, found 6"
    elif change == "MAC":
        sandbox.ip("link", "set", "eth1", "address", MAC)
        expected = f"MAC of interface 'eth1' differs: expected {mac}, found {MAC}"
    elif change == "route":
        sandbox.ip("route", "del", "192.168.7.0/24")
        expected = "route to 192.168.7.0/24 is missing in table 254"
    elif change == "bridge":
        node.openvswitch.add_bridge("elsewhere")
        _move(doctor, sandbox, "elsewhere", "tag=5")
        expected = f"bridge of port '{name}' differs: expected {node.bridge}, found elsewhere"
    else:
        vsctl("set", "port", name, "vlan_mode=native-untagged")
        expected = f"VLAN mode of port '{name}' differs: expected access, found native-untagged"
    finding = doctor.finds("attachment_changed", code=3)
    assert finding["message"] == f"eth1 in {sandbox.name} is not as it was made: {expected}"
    assert finding["command"] == f"cni-ovs reattach {sandbox.name} eth1 --force"
    doctor.type_in(finding)
    assert sandbox.link("eth1").mac == mac
    assert sandbox.routes() == all_routes
    assert vsctl("port-to-br", name) == node.bridge
    node.openvswitch.delete_bridge("elsewhere")
    doctor.is_silent()


@pytest.mark.parametrize(
    "keys",
    [
        {"interface_type": "internal", "vlan": 7},
        {"interface_type": "tap", "mtu": 1400},
        {"trunk": [{"id": 7}, {"minID": 20, "maxID": 22}]},
        {"vlan_mode": "native-tagged", "vlan": 9, "trunk": [{"id": 3}]},
        {"macspoofchk": True, "ipspoofchk": True},
        {"bandwidth": {"ingressRate": 10**7, "ingressBurst": 10**6, "egressRate": 10**7, "egressBurst": 10**6}},
        {"ipam": None},
        {"cniVersion": "0.3.1"},
    ],
    ids=",".join,
)
@pytest.mark.userspace
def test_of_what_nobody_has_changed_it_says_nothing(doctor: Doctor, keys: Json) -> None:
    node = doctor.node
    path, sandbox = node.folder / "net.conf", node.sandbox()
    whole: dict[str, Any] = {"cniVersion": "1.0.0", "ipam": node.host_local(), **keys}
    path.write_text(json.dumps(node.config(**whole)))
    doctor.cli.run("attach", sandbox.name, "eth1", "--from", str(path))
    doctor.is_silent()
    assert _result(doctor, "changes") == "ok"
    doctor.cli.run("reattach", sandbox.name, "eth1", "--force")
    doctor.is_silent()
    assert _result(doctor, "changes") == "ok"


@pytest.fixture
def mounts() -> Iterator[PrivateMounts]:
    made = PrivateMounts("/var/lib", "/etc")
    yield made
    made.close()


def test_how_a_runtime_has_made_it_is_known_from_libcnis_cache(doctor: Doctor, mounts: PrivateMounts) -> None:
    """What plugins behind ours have changed is theirs, and what nobody knows is not missed."""
    node = doctor.node
    pod = node.attached(ipam=node.host_local(), cniVersion="1.0.0", vlan=5)
    doctor.among(mounts)
    doctor.is_silent()
    assert _result(doctor, "changes") == "skipped"
    folder = mounts.path("/var/lib/cni/results")
    folder.mkdir(parents=True)

    def cache(*others: str) -> None:
        config = dict(pod.config)
        common = {"name": config.pop("name"), "cniVersion": config.pop("cniVersion")}
        chain = {**common, "plugins": [config, *({"type": other} for other in others)]}
        text = base64.b64encode(json.dumps(chain).encode()).decode()
        whole = {"kind": "cniCacheV1", "config": text, "result": pod.result}
        (folder / f"{node.network}-{pod.container_id}-{pod.ifname}").write_text(json.dumps(whole))

    cache()
    doctor.is_silent()
    assert _result(doctor, "changes") == "ok"
    pod.sandbox.ip("link", "set", pod.ifname, "address", MAC)
    doctor.finds("attachment_changed", code=3)
    cache("tuning")
    doctor.is_silent()
    node.openvswitch.vsctl("set", "port", node.port(pod)["name"], "tag=6")
    doctor.finds("attachment_changed", code=3)


def test_a_port_whose_first_bridge_is_gone_stays_where_it_is(doctor: Doctor) -> None:
    node = doctor.node
    first, sandbox = node.add_bridge(), node.sandbox()
    doctor.cli.run("attach", sandbox.name, "eth1", first, "--ip", "10.1.0.2/24")
    _move(doctor, sandbox, node.bridge)
    node.openvswitch.delete_bridge(first)
    said = doctor.cli.fails("reattach", sandbox.name, "--force")
    assert f"was made on bridge '{first}', which is not there" in said
    assert node.openvswitch.vsctl("port-to-br", port(doctor, sandbox)["name"]) == node.bridge
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}


@pytest.mark.parametrize("function", ["attaching._add", "attaching._finish"])
def test_what_a_killed_reattach_has_left_is_told_and_finished(doctor: Doctor, function: str) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    doctor.cli.dies_in(function, "reattach", sandbox.name, "--force")
    finding = doctor.finds("reattach_unfinished", code=3)
    assert finding["command"] == f"cni-ovs reattach {sandbox.path} eth1"
    doctor.type_in(finding)
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}
    doctor.is_silent()


def test_a_mirror_has_the_new_port(doctor: Doctor) -> None:
    node = doctor.node
    one, other = attached(doctor), attached(doctor)
    columns = ("select_src_port", "select_dst_port", "output_port")
    ports = [port(doctor, one)["name"], port(doctor, one)["name"], port(doctor, other)["name"]]
    gets = [word for name in set(ports) for word in (f"--id=@{name}", "get", "port", name, "--")]
    create = ["--id=@m", "create", "mirror", "name=m", *(f"{c}=@{p}" for c, p in zip(columns, ports, strict=True))]
    node.openvswitch.vsctl(*gets, *create, "--", "set", "bridge", node.bridge, "mirrors=@m")
    for sandbox in (one, other):
        doctor.cli.run("reattach", sandbox.name, "--force")
    [mirror] = node.openvswitch.rows("Mirror")
    expected = [port(doctor, sandbox)["_uuid"] for sandbox in (one, one, other)]
    assert [mirror[column] for column in columns] == expected


def test_a_default_route_that_another_interface_has_by_now_stays_there(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24", "--ip", "fd01::2/64", "--gateway", "10.1.0.1")
    doctor.cli.run("attach", sandbox.name, "eth2", doctor.node.bridge, "--ip", "10.2.0.2/24")
    sandbox.ip("route", "del", "default")
    sandbox.ip("route", "add", "default", "via", "10.2.0.1", "dev", "eth2", "metric", "100")
    doctor.is_silent()
    sandbox.ip("address", "del", "fd01::2/64", "dev", "eth1")
    doctor.type_in(doctor.finds("address_gone", code=4))
    assert sandbox.route("0.0.0.0/0").device == "eth2"
    doctor.is_silent()


def test_a_bridge_in_the_container_takes_address_and_mac_to_itself(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24", "--vlan", "5")
    sandbox.ip("link", "add", "br0", "type", "bridge")
    sandbox.ip("address", "flush", "dev", "eth1")
    sandbox.ip("link", "set", "eth1", "address", MAC)
    sandbox.ip("link", "set", "eth1", "master", "br0")
    doctor.is_silent()
    doctor.node.openvswitch.vsctl("set", "port", port(doctor, sandbox)["name"], "tag=6")
    finding = doctor.finds("member_changed", code=3)
    assert finding["remedy"] == "if that is not meant, change it back"
    assert "nomaster" in doctor.cli.fails("reattach", sandbox.name, "--force")
    assert "br0" in sandbox.ip("link", "show", "eth1")


@pytest.mark.parametrize("address", ["169.254.7.2/16", "fe80::5/64"])
def test_a_link_local_address_that_was_given_is_missed_only_if_it_is_gone(doctor: Doctor, address: str) -> None:
    sandbox = attached(doctor, "--ip", address)
    doctor.is_silent()
    sandbox.ip("address", "del", address, "dev", "eth1")
    doctor.finds("address_gone", code=4)


def test_routes_through_link_local_addresses_stay_when_an_address_comes_back(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "fd01::2/64", "--gateway", "fe80::1")
    sandbox.ip("-6", "route", "add", "fd77::/64", "via", "fe80::7", "dev", "eth1")
    routes = [(route.destination, route.gateways) for route in sandbox.routes()]
    sandbox.ip("address", "del", "fd01::2/64", "dev", "eth1")
    doctor.type_in(doctor.finds("address_gone", code=4))
    assert [(route.destination, route.gateways) for route in sandbox.routes()] == routes


def test_a_flat_file_of_the_node_hides_nothing_that_attach_has_recorded(doctor: Doctor, mounts: PrivateMounts) -> None:
    doctor.among(mounts)
    sandbox = attached(doctor, "--vlan", "5", "--ip", "10.1.0.2/24")
    folder = mounts.path("/etc/cni/net.d/ovs.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ovs.conf").write_text('{"mtu": 1500, "vlan": 7}')
    doctor.is_silent()
    doctor.node.openvswitch.vsctl("set", "port", port(doctor, sandbox)["name"], "tag=6")
    doctor.finds("attachment_changed", code=3)


def test_what_a_flat_file_added_is_recorded_and_what_it_says_later_does_not_matter(doctor: Doctor) -> None:
    node = doctor.node
    flat, path, sandbox = node.folder / "flat.conf", node.folder / "net.conf", node.sandbox()
    flat.write_text(json.dumps({"bridge": node.bridge, "vlan": 5, "log_file": str(node.folder / "log")}))
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", bridge=None, configuration_path=str(flat))))
    doctor.cli.run("attach", sandbox.name, "eth1", "--from", str(path))
    flat.write_text(json.dumps({"bridge": node.bridge, "vlan": 6, "log_file": str(node.folder / "other")}))
    doctor.is_silent()
    assert _result(doctor, "changes") == "ok"
    doctor.cli.run("reattach", sandbox.name, "--force")
    assert port(doctor, sandbox)["tag"] == 5
    assert not (node.folder / "other").exists()


def test_hostile_and_damaged_records_are_passed_over(doctor: Doctor) -> None:
    node = doctor.node
    flat, log = node.folder / "flat.conf", node.folder / "log"
    flat.write_text(json.dumps({"log_file": str(log), "bridge": node.bridge}))
    records: list[Json] = [
        {"config": {"configuration_path": str(flat), "vlna": 1}, "ips": [], "routes": []},
        {"config": {"bridge": node.bridge}, "ips": None, "routes": None},
        {"config": {"bridge": node.bridge}, "ips": [{"Address": "10.1.0.2/24"}], "routes": [{"DST": "0.0.0.0/0"}]},
        {"config": {"bridge": [1]}, "ips": [], "routes": [], "mirrors": {"a": [1]}},
        {"config": {"bridge": node.bridge, "external_ids": []}, "ips": [], "routes": []},
        {"config": {"bridge": node.bridge, "runtimeConfig": [], "args": 5}, "ips": [], "routes": [], "mac": MAC},
    ]
    for record in records:
        where = [["name", "==", port(doctor, attached(doctor, "--vlan", "5"))["name"]]]
        text = ["map", [["cniOvsAttach", json.dumps(record)]]]
        delete = {"op": "mutate", "table": "Port", "where": where}
        node.openvswitch.transact(
            {**delete, "mutations": [["external_ids", "delete", ["set", ["cniOvsAttach"]]]]},
            {**delete, "mutations": [["external_ids", "insert", text]]},
        )
    last = attached(doctor, "--vlan", "5")
    node.openvswitch.vsctl("set", "port", port(doctor, last)["name"], "tag=6")
    found = doctor.examines()["findings"]
    assert last.name in " ".join(finding["message"] for finding in found)
    assert not log.exists()


def test_many_attachments_do_not_take_many_file_descriptors(doctor: Doctor) -> None:
    for number in range(20):
        attached(doctor, "--ip", f"10.1.0.{number + 1}/24")
    command = ["prlimit", "--nofile=40", *doctor.cli.command(*doctor.words("--json"))]
    done = subprocess.run(command, env=doctor.cli.environment, capture_output=True, text=True, check=True, timeout=60)
    assert {check["result"] for check in json.loads(done.stdout)["checks"] if check["check"] == "changes"} == {"ok"}


def test_a_program_that_renames_its_interface_changes_nothing(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    sandbox.rename("eth1", "lan0")
    doctor.is_silent()


def test_a_smaller_mtu_of_the_end_on_the_host_is_found(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    doctor.node.host.ip("link", "set", port(doctor, sandbox)["name"], "mtu", "1400")
    finding = doctor.finds("mtu_of_ends", code=3)
    assert "has MTU 1500" in finding["message"] and "1400" in finding["message"]
    doctor.type_in(finding)
    doctor.is_silent()


def test_a_smaller_mtu_of_the_end_on_the_host_that_open_vswitch_keeps_to_is_found(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    name = port(doctor, sandbox)["name"]
    doctor.node.openvswitch.vsctl("set", "interface", name, "mtu_request=1400")
    wait_for("Open vSwitch has set it", lambda: doctor.node.host.link(name).mtu == 1400)
    doctor.type_in(doctor.finds("mtu_requested", code=3))
    wait_for("Open vSwitch has set it", lambda: doctor.node.host.link(name).mtu == 1500)
    doctor.is_silent()


def test_a_larger_mtu_in_the_container_has_one_remedy(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    sandbox.ip("link", "set", "eth1", "mtu", "9000")
    doctor.type_in(doctor.finds("mtu_too_large", code=3))
    doctor.is_silent()


# Doubles


@pytest.mark.parametrize(
    ("words", "problem", "value"),
    [
        (["--mac", MAC], "mac_twice", MAC),
        (["--ip", "10.1.0.2/24"], "address_twice", "10.1.0.2"),
        (["--ip", "fd01::2/64"], "address_twice", "fd01::2"),
    ],
    ids=["MAC", "IPv4", "IPv6"],
)
def test_what_two_containers_have_is_found_in_one_vlan_of_one_bridge(
    doctor: Doctor, words: list[str], problem: str, value: str
) -> None:
    first, third = attached(doctor, *words, "--vlan", "5"), attached(doctor, *words, "--vlan", "6")
    doctor.is_silent()
    second = doctor.node.sandbox()
    doctor.cli.run("attach", second.name, "eth1", doctor.node.bridge, "--vlan", "5")
    what = ["link", "set", "eth1", "address", value] if problem == "mac_twice" else []
    second.ip(*(what or ["address", "add", words[1], "dev", "eth1", *(["nodad"] if ":" in value else [])]))
    for target in ([], [first.name], [second.name]):
        found = [finding for finding in doctor.examines(*target)["findings"] if finding["level"] == "fault"]
        assert [finding["problem"] for finding in found] == [problem]
        for expected in (first.name, second.name, value, doctor.node.bridge):
            assert expected in found[0]["message"]
    assert "fault" not in {finding["level"] for finding in doctor.examines(third.name)["findings"]}


def test_the_interfaces_of_a_bond_may_have_one_mac(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--mac", MAC)
    process = sandbox.start("sleep", "60")
    wait_for("it is in there", partial(_is_in, sandbox, process.pid))
    doctor.cli.run("attach", str(process.pid), "eth2", doctor.node.bridge, "--mac", MAC)
    doctor.is_silent()


@pytest.mark.parametrize("address", ["10.9.9.9/32", "fd09::9/128", "169.254.1.1/16", "fe80::1/64"])
def test_addresses_that_each_may_have_are_no_fault(doctor: Doctor, address: str) -> None:
    for sandbox in (attached(doctor), attached(doctor)):
        sandbox.ip("address", "add", address, "dev", "eth1", *(["nodad"] if ":" in address else []))
    doctor.is_silent()


@pytest.mark.parametrize("case", ["trunk", "OVN", "controller"])
def test_what_no_container_sends_to_all_of_its_vlan_is_no_fault(doctor: Doctor, case: str) -> None:
    node = doctor.node
    words = [["--mac", MAC, "--ip", "10.1.0.2/24", *(["--trunk", vlan] if case == "trunk" else [])] for vlan in "78"]
    sandboxes = [attached(doctor, *each) for each in words]
    if case == "OVN":
        for sandbox in sandboxes:
            node.openvswitch.vsctl("set", "interface", port(doctor, sandbox)["name"], "external_ids:iface-id=x")
    if case == "controller":
        node.openvswitch.vsctl("set-controller", node.bridge, "ptcp:0:127.0.0.1")
    assert "fault" not in {finding["level"] for finding in doctor.examines()["findings"]}


def test_who_has_the_number_of_a_container_that_ended_is_not_it(doctor: Doctor) -> None:
    node, rows, processes = doctor.node, [], []
    for address in ("10.1.0.2/24", "10.1.0.3/24"):
        sandbox = node.sandbox()
        process = sandbox.start("sleep", "60")
        wait_for("it is in there", partial(_is_in, sandbox, process.pid))
        doctor.cli.run("attach", str(process.pid), "eth1", node.bridge, "--ip", address)
        rows.append(
            next(row for row in node.ports() if row["external_ids"]["contNetns"] == f"/proc/{process.pid}/ns/net")
        )
        processes.append(process)
    processes[0].kill()
    processes[0].wait()
    ids = {**rows[0]["external_ids"], "contNetns": rows[1]["external_ids"]["contNetns"]}
    where = [["name", "==", rows[0]["name"]]]
    row = {"external_ids": ["map", [list(pair) for pair in ids.items()]]}
    node.openvswitch.transact({"op": "update", "table": "Port", "where": where, "row": row})
    doctor.is_silent()


def _is_in(sandbox: Namespace, process: int) -> bool:
    return process in sandbox.processes()


def _move(doctor: Doctor, sandbox: Namespace, bridge: str, *columns: str) -> None:
    """Move the port of a container to another bridge, as a person would."""
    row = port(doctor, sandbox)
    ids = [f"external_ids:{key}={json.dumps(value)}" for key, value in row["external_ids"].items()]
    words = ("del-port", row["name"], "--", "add-port", bridge, row["name"], *columns)
    doctor.node.openvswitch.vsctl(*words, "--", "set", "port", row["name"], *ids)


def _result(doctor: Doctor, name: str) -> str:
    (check,) = [check for check in doctor.examines()["checks"] if check["check"] == name]
    found: str = check["result"]
    return found
