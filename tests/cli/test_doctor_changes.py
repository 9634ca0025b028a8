"""`cni-ovs doctor`: what somebody has changed by hand, and what two containers have that only one may have."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.runtime.machine import PrivateMounts
from tests.support.doctor import Doctor
from tests.support.namespace import Namespace
from tests.support.openvswitch import Row
from tests.support.plugin import Json

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
    addresses, routes = sandbox.address_texts("eth1"), sandbox.routes()
    doctor.is_silent()
    sandbox.ip("address", *removed, "dev", "eth1")
    for words in ((), (sandbox.name,)):
        found = doctor.examines(*words)
        findings = [finding for finding in found["findings"] if finding["level"] != "note"]
        assert {finding["problem"] for finding in findings} == {"address_gone"} and found["exit_code"] == 4
        assert findings[0]["message"] == f"eth1 in {sandbox.name} does not have address 10.1.0.2/24 any more"
    doctor.type_in(findings[0])
    assert sandbox.address_texts("eth1") == addresses
    assert sandbox.routes() == routes
    doctor.is_silent()


def test_an_address_that_was_added_stays_when_another_comes_back(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    sandbox.ip("address", "add", "10.1.0.77/24", "dev", "eth1")
    doctor.is_silent()
    sandbox.ip("address", "del", "10.1.0.2/24", "dev", "eth1")
    sandbox.ip("address", "replace", "10.1.0.77/24", "dev", "eth1")
    doctor.type_in(doctor.finds("address_gone", code=4))
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24", "10.1.0.77/24"}


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
        ids = [
            f"external_ids:{key}={json.dumps(value)}" for key, value in port(doctor, sandbox)["external_ids"].items()
        ]
        vsctl("del-port", name, "--", "add-port", "elsewhere", name, "tag=5", "--", "set", "port", name, *ids)
        expected = f"bridge of port '{name}' differs: expected {node.bridge}, found elsewhere"
    else:
        vsctl("set", "port", name, "vlan_mode=native-untagged")
        expected = f"VLAN mode of port '{name}' differs: expected access, found native-untagged"
    finding = doctor.finds("attachment_changed", code=3)
    assert finding["message"] == f"eth1 in {sandbox.name} is not as it was made: {expected}"
    assert finding["command"] == f"cni-ovs reattach {sandbox.name} eth1 --force"
    doctor.type_in(finding)
    assert sandbox.link("eth1").mac == mac
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
    made = PrivateMounts("/var/lib")
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


def test_a_program_that_renames_its_interface_changes_nothing(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    sandbox.ip("link", "set", "eth1", "down")
    sandbox.ip("link", "set", "eth1", "name", "lan0")
    sandbox.ip("link", "set", "lan0", "up")
    doctor.is_silent()


def test_a_smaller_mtu_of_the_end_on_the_host_is_found(doctor: Doctor) -> None:
    sandbox = attached(doctor, "--ip", "10.1.0.2/24")
    doctor.node.host.ip("link", "set", port(doctor, sandbox)["name"], "mtu", "1400")
    finding = doctor.finds("mtu_of_ends", code=3)
    assert "has MTU 1500" in finding["message"] and "1400" in finding["message"]
    doctor.type_in(finding)
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
    doctor.cli.run("attach", sandbox.name, "eth2", doctor.node.bridge, "--mac", MAC)
    doctor.is_silent()


def _result(doctor: Doctor, name: str) -> str:
    (check,) = [check for check in doctor.examines()["checks"] if check["check"] == name]
    found: str = check["result"]
    return found
