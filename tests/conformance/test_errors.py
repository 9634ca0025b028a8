"""CNI contract, section "Errors" (point 27): the codes, and texts that name the key and the value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.node import Node
from tests.support.plugin import VERSIONS

pytestmark = pytest.mark.one_target


@pytest.mark.contract(27)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_carries_the_configurations_version(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, bridge="nosuchbridge", ipam=node.host_local())
    assert pod.add().error(100)["cniVersion"] == version
    node.assert_nothing_left()


@pytest.mark.contract(27)
@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ({"bridge": None}, ["bridge"]),
        ({"bridge": ""}, ["bridge"]),
        ({"bridge": 3}, ["bridge", "3"]),
        ({"bridge": "a/b"}, ["bridge", "a/b"]),
        ({"interface_type": "dpdk"}, ["interface_type", "dpdk"]),
        ({"interface_type": 1}, ["interface_type", "1"]),
        ({"vlan": -1}, ["vlan", "-1"]),
        ({"vlan": 4095}, ["vlan", "4095"]),
        ({"vlan": "x"}, ["vlan", "x"]),
        ({"vlan": True}, ["vlan", "true"]),
        ({"vlan": 1.5}, ["vlan", "1.5"]),
        ({"vlan": [1]}, ["vlan"]),
        ({"mtu": 67}, ["mtu", "67"]),
        ({"mtu": 65536}, ["mtu", "65536"]),
        ({"mtu": "big"}, ["mtu", "big"]),
        ({"ofport_request": -1}, ["ofport_request", "-1"]),
        ({"ofport_request": 65280}, ["ofport_request", "65280"]),
        ({"socket_file": "udp:1.2.3.4:5"}, ["socket_file", "udp:1.2.3.4:5"]),
        ({"socket_file": "tcp:1.2.3.4"}, ["socket_file", "tcp:1.2.3.4"]),
        ({"socket_file": 5}, ["socket_file", "5"]),
        ({"timeout": 0}, ["timeout", "0"]),
        ({"timeout": 3601}, ["timeout", "3601"]),
        ({"timeout": "soon"}, ["timeout", "soon"]),
        ({"log_level": "loud"}, ["log_level", "loud"]),
        ({"external_ids": ["a"]}, ["external_ids"]),
        ({"external_ids": {"a": 1}}, ["external_ids", "a", "1"]),
        ({"external_ids": {"owner": "me"}}, ["external_ids", "owner"]),
        ({"ipam": "host-local"}, ["ipam", "host-local"]),
        ({"ipam": {"type": 1}}, ["ipam", "type"]),
        ({"runtimeConfig": {"mac": 5}}, ["mac", "5"]),
        ({"link_state_check_retries": -1}, ["link_state_check_retries", "-1"]),
    ],
    ids=lambda value: "-".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else "",
)
def test_a_mistake_in_the_configuration_names_key_and_value(node: Node, keys: dict[str, Any], texts: list[str]) -> None:
    error = node.attachment(**keys).add().error(7)
    for text in texts:
        assert text in error["msg"], error
    node.assert_nothing_left()


@pytest.mark.contract(27)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deviceID", "0000:42:00.1"),
    ],
)
def test_a_device_that_does_not_exist_is_refused_with_key_and_value(node: Node, key: str, value: Any) -> None:
    error = node.attachment(**{key: value}).add().error(7)
    assert key in error["msg"] and value in error["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(27, 11)
def test_a_missing_bridge_is_reported_at_once_and_with_its_name(node: Node) -> None:
    outcome = node.attachment(bridge="nosuchbridge").add()
    assert "nosuchbridge" in outcome.error(100)["msg"]
    assert outcome.seconds < 2
    node.assert_nothing_left()


@pytest.mark.contract(27)
def test_a_database_that_is_not_there_means_try_again_later_and_is_named(node: Node) -> None:
    missing = str(node.folder / "no.sock")
    pod = node.attachment(socket_file=missing, ipam=node.host_local(), timeout=3)
    assert missing in pod.add().error(11)["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(27)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_a_port_name_that_belongs_to_somebody_else_is_an_error_and_no_overwrite(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind)
    name = node.port(pod)["name"]
    pod.delete().silent()
    node.openvswitch.vsctl("add-port", node.bridge, name, "--", "set", "Interface", name, "type=internal")
    before = node.openvswitch.row("Port", name)
    assert name in pod.add().error(102)["msg"]
    assert node.openvswitch.row("Port", name) == before
    assert pod.sandbox.links().keys() == pod.sandbox.initial_devices
    node.openvswitch.vsctl("del-port", name)
    node.assert_nothing_left()


@pytest.mark.contract(27)
def test_an_error_is_one_that_a_person_can_read(node: Node) -> None:
    """No exception names, no stack traces, no line breaks in the message."""
    mistakes: list[dict[str, Any]] = [
        {"bridge": "nosuchbridge"},
        {"vlan": 4095},
        {"ipam": {"type": "nosuchipam"}},
        {"trunk": [1]},
    ]
    for keys in mistakes:
        outcome = node.attachment(**keys).add()
        error = outcome.error()
        assert "Error(" not in error["msg"] and "Traceback" not in outcome.stderr and "\n" not in error["msg"]
