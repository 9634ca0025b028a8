"""CNI contract, section "Versions" (points 9 to 12): which versions there are, and each one's form of the result."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.ipam import static
from tests.support.node import Node
from tests.support.plugin import VERSIONS, Json

WITH_INTERFACES = VERSIONS[2:]
WITH_CHECK = VERSIONS[4:]


# Which versions there are (9, 10)


@pytest.mark.contract(9)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_attaches_and_detaches(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=node.host_local())
    assert pod.add().result["cniVersion"] == version
    assert len(pod.sandbox.address_texts("net1")) == 1
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(9)
@pytest.mark.parametrize("version", [None, ""], ids=["absent", "empty"])
def test_no_version_means_the_first_one(node: Node, version: str | None) -> None:
    pod = node.attachment(cniVersion=version, ipam=node.host_local("10.10.0.0/16"), cni_path="/usr/lib/cni")
    result = pod.add().result
    assert result.get("cniVersion") == "0.1.0"
    assert result["ip4"]["ip"] == "10.10.0.2/16"
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(9)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_an_unknown_version_is_refused_with_both_sides_versions(node: Node, command: str) -> None:
    pod = node.attachment()
    for version in ("0.0.9", "0.3.2", "1.0", "1.1.0 ", "v1.1.0", "1.2.0", "2.0.0", "1.1.0-rc1"):
        pod.config["cniVersion"] = version
        error = pod.run(command).error(1)
        assert error["msg"] == "incompatible CNI versions"
        assert f'"{version}"' in error["details"]
        for known in VERSIONS:
            assert known in error["details"]
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(9)
def test_a_version_that_is_no_text_is_an_error(node: Node) -> None:
    pod = node.attachment()
    for version in (1, 1.1, True, ["1.1.0"]):
        pod.config["cniVersion"] = version
        pod.add().error(1, 6, 7)
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(9)
@pytest.mark.parametrize("version", VERSIONS[:4])
def test_check_is_refused_below_0_4_0(node: Node, version: str) -> None:
    node.attachment(cniVersion=version, prevResult={"cniVersion": version}).check().error(1)


@pytest.mark.one_target
@pytest.mark.contract(9, 23, 24)
@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_gc_and_status_are_refused_below_1_1_0(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version)
    pod.status().error(1)
    pod.gc(**{"cni.dev/valid-attachments": []}).error(1)


@pytest.mark.contract(10)
def test_version_lists_every_supported_version(node: Node) -> None:
    for stdin in (None, '{"cniVersion": "0.4.0"}', "no JSON at all"):
        asked = node.plugin.run(node.plugin.environment(CNI_COMMAND="VERSION"), stdin)
        assert asked.result == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


# The result's form (11)


def _keys(entries: list[Json]) -> set[str]:
    return {key for entry in entries for key in entry}


def _dual(version: str) -> Json:
    ipam = static(
        "10.1.0.2/24",
        "2001:db8:1::2/64",
        gateways=("10.1.0.1", "2001:db8:1::1"),
        routes=({"dst": "192.168.0.0/16", "gw": "10.1.0.3"}, {"dst": "2001:db8:2::/48", "gw": "2001:db8:1::3"}),
        dns={"nameservers": ["10.1.0.53"], "domain": "example.org", "search": ["example.org"], "options": ["ndots:1"]},
    )
    if version in ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0"):
        for entry, family in zip(ipam["addresses"], ("4", "6"), strict=True):
            entry["version"] = family
    return ipam


@pytest.mark.one_target
@pytest.mark.contract(11)
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_first_versions_have_one_address_per_family_and_no_interfaces(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=_dual(version))
    result = pod.add().result
    assert set(result) == {"cniVersion", "ip4", "ip6", "dns"}
    assert result["ip4"] == {
        "ip": "10.1.0.2/24",
        "gateway": "10.1.0.1",
        "routes": [{"dst": "192.168.0.0/16", "gw": "10.1.0.3"}],
    }
    assert result["ip6"] == {
        "ip": "2001:db8:1::2/64",
        "gateway": "2001:db8:1::1",
        "routes": [{"dst": "2001:db8:2::/48", "gw": "2001:db8:1::3"}],
    }
    assert result["dns"]["nameservers"] == ["10.1.0.53"]
    assert pod.sandbox.address_texts("net1") == {"10.1.0.2/24", "2001:db8:1::2/64"}
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(11)
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_no_address_at_all_cannot_be_said_in_the_first_versions_and_is_refused(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version)
    error = pod.add().error(1, 7)
    assert version in error["msg"] + error.get("details", "")
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(11, 12)
@pytest.mark.parametrize("version", WITH_INTERFACES)
def test_each_later_version_has_exactly_its_fields(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=_dual(version), mtu=1400)
    result = pod.add().result
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}
    host, container = result["interfaces"]
    more = {"mtu"} if version == "1.1.0" else set()
    assert set(host) == {"name", "mac"} | more
    assert set(container) == {"name", "mac", "sandbox"} | more
    assert _keys(result["ips"]) == {"address", "gateway", "interface"} | (
        {"version"} if version in ("0.3.0", "0.3.1", "0.4.0") else set()
    )
    assert _keys(result["routes"]) == {"dst", "gw"}
    assert [entry["address"] for entry in result["ips"]] == ["10.1.0.2/24", "2001:db8:1::2/64"]
    assert [entry["gateway"] for entry in result["ips"]] == ["10.1.0.1", "2001:db8:1::1"]
    assert result["dns"] == _dual(version)["dns"]
    if version in ("0.3.0", "0.3.1", "0.4.0"):
        assert [entry["version"] for entry in result["ips"]] == ["4", "6"]
    if version == "1.1.0":
        assert host["mtu"] == container["mtu"] == 1400
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(11, 12)
@pytest.mark.parametrize("version", WITH_INTERFACES)
def test_interfaces_are_the_host_end_then_the_containers_as_they_really_are(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=node.host_local())
    result = pod.add().result
    host, container = result["interfaces"]
    assert host["name"] == node.port(pod)["name"]
    assert host["mac"] == node.host.link(host["name"]).mac
    assert "sandbox" not in host
    assert container["name"] == "net1"
    assert container["mac"] == pod.sandbox.link("net1").mac
    assert container["sandbox"] == pod.sandbox.path
    assert [entry["interface"] for entry in result["ips"]] == [1]
    if version == "1.1.0":
        assert (host["mtu"], container["mtu"]) == (1500, 1500)


@pytest.mark.one_target
@pytest.mark.contract(11)
@pytest.mark.parametrize("version", WITH_INTERFACES)
def test_index_0_is_written_because_it_is_a_value(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, interface_type="internal", ipam=node.host_local())
    result = pod.add().result
    (container,) = result["interfaces"]
    assert (container["name"], container["sandbox"]) == ("net1", pod.sandbox.path)
    assert container["mac"] == pod.sandbox.link("net1").mac
    assert [entry["interface"] for entry in result["ips"]] == [0]
    assert type(result["ips"][0]["interface"]) is int
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(11)
@pytest.mark.parametrize("version", WITH_INTERFACES)
def test_without_ipam_there_are_interfaces_and_nothing_empty(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version)
    result = pod.add().result
    assert set(result) <= {"cniVersion", "interfaces", "ips"}
    assert result.get("ips", []) == []
    assert len(result["interfaces"]) == 2


@pytest.mark.one_target
@pytest.mark.contract(11)
def test_sandbox_is_cni_netns_to_the_letter(node: Node) -> None:
    pod = node.attachment()
    pod.netns = f"/run//netns/../netns/{pod.sandbox.name}"
    assert pod.add().result["interfaces"][1]["sandbox"] == pod.netns
    assert node.port(pod)["external_ids"]["contNetns"] == pod.netns


@pytest.mark.one_target
@pytest.mark.contract(11)
def test_routes_have_all_their_fields_in_1_1_0(node: Node) -> None:
    route = {
        "dst": "192.168.0.0/16",
        "gw": "10.1.0.1",
        "mtu": 1300,
        "advmss": 1200,
        "priority": 77,
        "table": 100,
        "scope": 0,
    }
    pod = node.attachment(ipam=static("10.1.0.2/24", gateways=("10.1.0.1",), routes=(route,)))
    (written,) = pod.add().result["routes"]
    assert {**written, "scope": written.get("scope", 0)} == route
    assert all(type(written[key]) is int for key in written if key not in ("dst", "gw"))


# Chained after another plugin (12)


def _previous(version: str, node: Node) -> Json:
    entry: dict[str, Any] = {"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1}
    if version in ("0.3.0", "0.3.1", "0.4.0"):
        entry["version"] = "4"
    return {
        "cniVersion": version,
        "interfaces": [
            {"name": "vethabc", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/other"},
        ],
        "ips": [entry],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}],
        "dns": {"nameservers": ["10.9.0.53"]},
    }


@pytest.mark.one_target
@pytest.mark.contract(12)
@pytest.mark.parametrize("version", WITH_INTERFACES)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_after_another_plugin_ours_are_appended_and_indexes_stay_right(node: Node, version: str, kind: str) -> None:
    previous = _previous(version, node)
    pod = node.attachment(cniVersion=version, interface_type=kind, prevResult=previous, ipam=node.host_local())
    result = pod.add().result
    interfaces = result["interfaces"]
    assert interfaces[:2] == previous["interfaces"]
    assert [entry["name"] for entry in interfaces[2:]][-1] == "net1"
    assert len(interfaces) == (4 if kind == "veth" else 3)
    assert result["ips"][0] == previous["ips"][0]
    ours = result["ips"][1]
    assert interfaces[ours["interface"]]["name"] == "net1"
    assert previous["routes"][0] in result["routes"]
    assert result["dns"] == previous["dns"]
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(12, 22)
def test_check_finds_our_part_of_a_chains_result(node: Node) -> None:
    pod = node.attachment(prevResult=_previous("1.1.0", node), ipam=node.host_local())
    result = pod.add().result
    pod.config["prevResult"] = result
    pod.check().silent()
    pod.sandbox.ip("address", "flush", "dev", "net1")
    pod.check().error(106)
