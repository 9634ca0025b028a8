"""The network configuration: every key with what it means, what is refused and how, and what DEL and GC let pass."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cni_ovs.plugin import config as network_config
from cni_ovs.plugin import log, ovn
from cni_ovs.plugin.config import NetworkConfig
from cni_ovs.plugin.errors import CniError
from tests.unit.tools import NOWHERE, Json

LONGEST_SOCKET = "/" + "s" * 106
LONGEST_BRIDGE = "b" * 255


def parse(keys: Json, cni_args: str = "", *, lenient: bool = False) -> NetworkConfig:
    """A configuration that has these keys besides the required ones; a key with the value ... is left out."""
    values = {"cniVersion": "1.1.0", "name": "n", "type": "ovs", "bridge": "br1", **keys}
    values = {key: value for key, value in values.items() if value is not ...}
    return network_config.parse(values, json.dumps(values).encode(), cni_args, lenient=lenient)


def refused(keys: Json, cni_args: str = "") -> CniError:
    """The error for such a configuration."""
    with pytest.raises(CniError) as caught:
        parse(keys, cni_args)
    return caught.value


# What is right

DEFAULTS: Json = {
    "name": "n",
    "bridge": "br1",
    "interface_type": "veth",
    "mtu": None,
    "mac": None,
    "ofport_request": None,
    "socket_file": "unix:/var/run/openvswitch/db.sock",
    "timeout": 30.0,
    "link_wait": None,
    "external_ids": {},
    "pod": {},
    "ipam_type": None,
    "dns": {},
    "prev_result": None,
    "valid_attachments": None,
}

VALID: list[tuple[Json, str, Any]] = [
    ({"name": "a.B-c_1"}, "name", "a.B-c_1"),
    ({"bridge": "br-int"}, "bridge", "br-int"),
    ({"bridge": LONGEST_BRIDGE}, "bridge", LONGEST_BRIDGE),
    ({"bridge": "brücke 1"}, "bridge", "brücke 1"),
    ({"interface_type": "veth"}, "interface_type", "veth"),
    ({"interface_type": ""}, "interface_type", "veth"),
    ({"interface_type": "system"}, "interface_type", "veth"),
    ({"interface_type": "internal"}, "interface_type", "internal"),
    ({"interface_type": "tap"}, "interface_type", "tap"),
    ({"interface_type": "dpdkvhostuser"}, "interface_type", "dpdkvhostuser"),
    ({"mtu": 68}, "mtu", 68),
    ({"mtu": 65535}, "mtu", 65535),
    ({"mtu": 0}, "mtu", None),  # a Go client's missing value
    ({"ofport_request": 1}, "ofport_request", 1),
    ({"ofport_request": 65279}, "ofport_request", 65279),
    ({"ofport_request": 0}, "ofport_request", None),
    ({"socket_file": "/run/db.sock"}, "socket_file", "unix:/run/db.sock"),
    ({"socket_file": "unix:/run/db.sock"}, "socket_file", "unix:/run/db.sock"),
    ({"socket_file": LONGEST_SOCKET}, "socket_file", f"unix:{LONGEST_SOCKET}"),
    ({"socket_file": "tcp:127.0.0.1:6640"}, "socket_file", "tcp:127.0.0.1:6640"),
    ({"socket_file": "tcp:localhost:6640"}, "socket_file", "tcp:127.0.0.1:6640"),
    ({"socket_file": "tcp:[::1]:65535"}, "socket_file", "tcp:[::1]:65535"),
    ({"timeout": 1}, "timeout", 1.0),
    ({"timeout": 2.5}, "timeout", 2.5),
    ({"timeout": 3600}, "timeout", 3600.0),
    ({"link_state_check_retries": 10, "link_state_check_interval": 1000}, "link_wait", 10.0),
    ({"link_state_check_retries": 10}, "link_wait", 6.0),
    ({"link_state_check_interval": 1000}, "link_wait", 5.0),
    ({"link_state_check_retries": 1, "link_state_check_interval": 1}, "link_wait", 3.0),  # never less than ovs-cni's
    ({"link_state_check_retries": 0}, "link_wait", 3.0),
    ({"external_ids": {"a": "b", "": "", "ü": "ö"}}, "external_ids", {"a": "b", "": "", "ü": "ö"}),
    ({"ipam": {"type": "host-local"}}, "ipam_type", "host-local"),
    ({"ipam": {"TYPE": "static"}}, "ipam_type", "static"),
    ({"ipam": {"type": ""}}, "ipam_type", None),
    ({"ipam": {"subnet": "10.0.0.0/8"}}, "ipam_type", None),
    ({"dns": {"nameservers": ["10.0.0.1"]}}, "dns", {"nameservers": ["10.0.0.1"]}),
    ({"prevResult": {"ips": []}}, "prev_result", {"ips": []}),
    ({"cni.dev/valid-attachments": None}, "valid_attachments", []),
    ({"cni.dev/valid-attachments": []}, "valid_attachments", []),
    ({"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "e"}]}, "valid_attachments", [("c", "e")]),
    ({"cni.dev/attachments": [{"containerID": "c", "ifname": "e"}]}, "valid_attachments", [("c", "e")]),
    (
        {"cni.dev/attachments": [], "cni.dev/valid-attachments": [{"containerid": "c", "IfName": "e", "more": 1}]},
        "valid_attachments",
        [("c", "e")],
    ),
]


@pytest.mark.parametrize("attribute", DEFAULTS)
def test_what_is_left_out_has_a_default(attribute: str) -> None:
    assert getattr(parse({}), attribute) == DEFAULTS[attribute]


@pytest.mark.parametrize(("keys", "attribute", "expected"), VALID)
def test_a_right_value_is_taken_and_changes_nothing_else(keys: Json, attribute: str, expected: Any) -> None:
    config = parse(keys)
    assert getattr(config, attribute) == expected
    assert {name: getattr(config, name) for name in DEFAULTS if name != attribute} == {
        name: value for name, value in DEFAULTS.items() if name != attribute
    }


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
@pytest.mark.parametrize(
    ("keys", "attribute", "expected"), [entry for entry in VALID if not any("cni.dev" in key for key in entry[0])]
)
def test_a_key_may_be_written_in_another_case(keys: Json, attribute: str, expected: Any, change: Any) -> None:
    others: Json = dict.fromkeys(keys, ...)  # so that the key is there only once
    assert getattr(parse({**others, **{change(key): value for key, value in keys.items()}}), attribute) == expected


def test_a_key_in_its_own_case_comes_first() -> None:
    assert parse({"MTU": 1001, "mtu": 1002, "Mtu": 1003}).mtu == 1002


@pytest.mark.parametrize("key", [key for key in DEFAULTS if key not in ("name", "bridge")])
def test_null_is_the_same_as_absent(key: str) -> None:
    names = {"ipam_type": "ipam", "prev_result": "prevResult", "link_wait": "link_state_check_retries"}
    assert getattr(parse({names.get(key, key): None}), key) == DEFAULTS[key]


def test_the_configuration_is_kept_as_the_runtime_wrote_it() -> None:
    raw = b' {"name" : "n", "bridge":"b", "x":1e2}\n'
    assert network_config.parse(json.loads(raw), raw, "").raw == raw


def test_the_log_level_is_applied(capfd: pytest.CaptureFixture[str]) -> None:
    parse({"log_level": "error"})
    log.warning("not to be seen")
    parse({"log_level": "debug"})
    log.debug("to be seen")
    assert capfd.readouterr().err == "cni-ovs: debug: to be seen\n"


def test_the_log_file_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "log"
    parse({"log_file": str(path)})
    log.warning("remember this")
    assert path.read_text().endswith("warning: remember this\n")
    assert path.stat().st_mode & 0o777 == 0o600


# What is wrong, and what the message says is allowed

TEXT = "must be a string"
PLACES = ["", "127.0.0.1", "127.0.0.1:", ":6640", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "127.0.0.1:-1"]
PLACES += ["db.example.com:6640", "::1:6640", "[::1]", "[127.0.0.1]:6640", "[::1:6640", "127.0.0.1:\uff16\uff16"]
PLACES += ["127.0.0.1:06553511", "127.0.0.1:00000165536", "[fe80::1%eth0]:6640", "127.0.0.1:6640:6640"]
RECORDED = ["owner", "contNetwork", "contID", "contIface", "contNetns", "contPodUid", "contPodName", "contPodNamespace"]
NO_VLANS: list[Any] = [-1, 4095, 1.0, "5", True, [], {}, 1 << 70]
WRONG_VLANS: list[Any] = [1, "5", {}, {"id": 1}, True, [1], ["1"], [None], [{}], [[]], [{"id": None}], [{"ID": "1"}]]
WRONG_VLANS += [[{"id": number}] for number in NO_VLANS]
WRONG_VLANS += [[{"id": 5}, other] for other in ({"minID": 0}, {"maxID": 9}, {"id": 6, "minID": 7}, {"vlan": 7})]
WRONG_VLANS += [[{"minID": -1, "maxID": 5}], [{"minID": 1, "maxID": 4095}], [{"minID": 1, "maxID": "2"}]]
ITEMS: list[Any] = [1, "c", [], {}, {"containerID": "c"}, {"ifname": "e"}, {"containerID": 1, "ifname": "e"}]
# Key, what the message says is allowed, and values.
REFUSED: list[tuple[str, str, list[Any]]] = [
    ("bridge", TEXT, [1, ["br1"]]),
    ("bridge", "the name of an Open vSwitch bridge", ["", "a/b", "b" * 256]),
    ("bridge", "control characters", ["br\n1", "br\ud800"]),
    ("interface_type", "veth (also '' or system), internal, tap,", ["dpdk", "VETH", 1, [], {}, True]),
    ("vlan", "integer from 0 to 4094", NO_VLANS),
    ("vlan_mode", "access, trunk, native-tagged, native-untagged, dot1q-tunnel", ["ACCESS", "none", 1, [], {}, True]),
    *((key, "numbers from 0 to 4094", WRONG_VLANS) for key in ("trunk", "cvlans")),
    *((key, "minID must not be above maxID", [[{"minID": 3, "maxID": 2}]]) for key in ("trunk", "cvlans")),
    ("mtu", "integer from 68 to 65535", [-1, 67, 65536, 1500.0, "1500", False, [1500]]),
    ("ofport_request", "integer from 1 to 65279", [-1, 65280, 1.5, "1", True]),
    ("socket_file", TEXT, [1, [], {"unix": "/x"}, True]),
    ("socket_file", "unix:PATH", ["", "db.sock", "unix:", "unix:db.sock", "ssl:1.2.3.4:1"]),
    ("socket_file", "107 bytes", [f"{LONGEST_SOCKET}s", "/" + "ä" * 54]),
    ("socket_file", "control characters", ["/db\0sock"]),
    ("socket_file", "tcp:ADDRESS:PORT", [f"tcp:{place}" for place in PLACES]),
    ("timeout", "number of seconds from 1 to 3600", [0, 0.99, 3600.1, -5, "30", True, [], 30000]),
    ("link_state_check_retries", "integer from 0", [-1, 0.5, "5", True]),
    ("link_state_check_interval", "integer from 0", [-1, 0.5, "600ms", True]),
    ("external_ids", "object whose values are strings", [[], "a=b", 1, {"a": 1}, {"a": None}]),
    ("external_ids", "written by the plugin itself", [{key: "x"} for key in RECORDED]),
    ("ipam", "must be an object", ["static", [], 1, True]),
    ("ipam.type", TEXT, [1, [], {}]),
    ("ipam.type", "without a path", ["/bin/sh", "../x", "a/b", ".", ".."]),
    ("ipam.type", "control characters", ["a\0b"]),
    ("dns", "must be an object", ["10.0.0.1", [], 1]),
    ("prevResult", "must be an object", ["{}", [], 1]),
    ("log_level", "debug, info, warning, error", ["verbose", "INFO", "", 1, [], {}, True]),
    ("log_file", TEXT, [1, []]),
    ("log_file", "absolute path", ["", "log", "./log"]),
    ("configuration_path", TEXT, [1, []]),
    ("configuration_path", "absolute path", ["ovs.conf", "./ovs.conf"]),
]
NO_LISTS: list[object] = [{}, "x", 0, False]
WRONG_ATTACHMENTS = [(value, "must be a list") for value in NO_LISTS]
WRONG_ATTACHMENTS += [([item], "containerID and ifname") for item in ITEMS]
WRONG = [(name, value, allowed) for name, allowed, refused_values in REFUSED for value in refused_values]


def keys_of(name: str, value: Any) -> Json:
    """The configuration that has this value; "ipam.type" is a key inside an object."""
    outer, _, inner = name.partition(".")
    return {outer: {inner: value}} if outer == "ipam" and inner else {name: value}


def shown(value: Any) -> str:
    """How a message shows a value: as JSON, the beginning of it if it is long."""
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_refused_naming_key_value_and_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    error = refused(keys_of(name, value))
    assert error.code == 7
    assert repr(name) in error.msg
    assert shown(value) in error.msg
    assert allowed in error.msg


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfffb"], ids=ascii)
@pytest.mark.parametrize("what", ["key", "value"])
def test_external_ids_that_no_database_takes_are_refused(what: str, text: str) -> None:
    # ovsdb-server's JSON parser refuses both, and drops the connection.
    assert refused({"external_ids": {text: "x"} if what == "key" else {"x": text}}).code == 7


def test_a_missing_bridge_is_named() -> None:
    error = refused({"bridge": ...})
    assert error.code == 7
    assert "'bridge' is missing" in error.msg


@pytest.mark.parametrize("path", [f"{NOWHERE}/log", "/", "/proc/self/status/log", "/" + "x" * 300])
def test_a_log_file_that_cannot_be_opened_is_named(path: str) -> None:
    error = refused({"log_file": path})
    assert error.code == 7
    assert "'log_file'" in error.msg and path in error.msg


def test_a_log_file_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "log"
    link.symlink_to(tmp_path / "elsewhere")
    assert refused({"log_file": str(link)}).code == 7
    assert not (tmp_path / "elsewhere").exists()


# VFs


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        (None, None),
        ("0000:03:00.5", "0000:03:00.5"),
        ("0000:AF:1f.7", "0000:af:1f.7"),
        ("10000:01:00.0", "10000:01:00.0"),  # a domain above 0xffff, as of VMD
    ],
)
def test_a_device_is_named_by_its_pci_address(value: str | None, expected: str | None) -> None:
    assert parse({"deviceID": value}).device_id == expected


ADDRESSES = ["03:00.5", "0000:03:00:5", "0000.03.00.5", "0000:03:00.", "0000:3:00.5", "0000:0g:00.5", "../0000:03:00.5"]


@pytest.mark.parametrize("value", [*ADDRESSES, "0000:03:00.5/net", "000:03:00.5", "0000:03:00.\u0665", 5, [], {}, True])
def test_a_device_that_is_no_pci_address_is_refused(value: Any) -> None:
    error = refused({"deviceID": value})
    assert error.code == 7
    assert "'deviceID'" in error.msg
    assert ("such as 0000:03:00.5" if isinstance(value, str) else "a string") in error.msg
    assert parse({"deviceID": value}, lenient=True).device_id is None


def test_a_device_needs_no_bridge_and_is_no_internal_port() -> None:
    assert parse({"bridge": ..., "deviceID": "0000:03:00.5"}).bridge == ""
    assert parse({"bridge": ..., "deviceID": "0000:03:00.5"}, "OvnPort=a").bridge == "br-int"
    assert parse({"interface_type": "system", "deviceID": "0000:03:00.5"}).device_id == "0000:03:00.5"
    keys = {"interface_type": "internal", "deviceID": "0000:03:00.5"}
    error = refused(keys)
    assert error.code == 7
    assert "'interface_type' 'internal'" in error.msg and "'deviceID' '0000:03:00.5'" in error.msg
    parse(keys, lenient=True)


def test_a_mirror_needs_a_bridge_also_behind_a_device() -> None:
    keys = {"bridge": ..., "deviceID": "0000:03:00.5", "type": "ovs-mirror-consumer", "mirrors": [{"name": "m"}]}
    assert "'bridge' is missing" in refused(keys).msg


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("tag", "vlan"),
        ("Tag", "vlan"),
        ("trunks", "trunk"),
        ("mac", "runtimeConfig.mac"),
        ("OvnPort", "args.cni.ovnPort"),
    ],
)
def test_the_names_that_others_have_for_them_are_known(key: str, meant: str, capfd: pytest.CaptureFixture[str]) -> None:
    parse({key: 5})
    assert f"unknown key {key!r}" in (logged := capfd.readouterr().err) and f"did you mean {meant!r}?" in logged


def test_an_error_of_the_configuration_tells_of_unknown_keys_too() -> None:
    """Of a command that fails, runtimes show no log."""
    error = refused({"bridge": ..., "brigde": "br1", "vlna": 5})
    assert "'bridge' is missing" in error.msg
    assert "unknown key 'brigde'" in error.details and "'bridge'?" in error.details and "'vlan'?" in error.details
    assert refused({"vlan": 5000}).details == ""


# OVN


@pytest.mark.parametrize(
    ("keys", "cni_args", "expected"),
    [
        ({}, "", None),
        ({"args": {"cni": {"ovnPort": "a"}}}, "OvnPort=b", "a"),
        ({"args": {"cni": {"OvnPort": "a"}}}, "", "a"),
        ({"args": {"cni": {"OVNPORT": ""}}}, "OvnPort=b", "b"),
        ({"args": {"cni": None}}, "OvnPort=b=c;OvnPort=", None),
        ({"args": []}, "IgnoreUnknown=1;OvnPort=b=c", "b=c"),
    ],
)
def test_the_logical_port_comes_from_args_cni_and_then_from_cni_args(
    keys: Json, cni_args: str, expected: str | None
) -> None:
    assert parse(keys, cni_args).ovn_port == expected


def test_a_port_of_ovn_is_on_ovns_bridge_unless_another_is_named() -> None:
    assert parse({"bridge": ...}, "OvnPort=a").bridge == "br-int"
    assert parse({"bridge": "br1"}, "OvnPort=a").bridge == "br1"


@pytest.mark.parametrize("value", [1, [], "a\nb"])
def test_a_logical_port_that_is_none_is_refused(value: Any) -> None:
    error = refused({"args": {"cni": {"ovnPort": value}}})
    assert error.code == 7
    assert "'args.cni.ovnPort'" in error.msg
    error = refused({}, "OvnPort=a\nb")
    assert error.code == 4
    assert "OvnPort in CNI_ARGS" in error.msg


@pytest.mark.parametrize(
    ("external_ids", "expected"),
    [
        ({}, False),
        ({"ovn-remote": "unix:x"}, True),
        ({"ovn-remote": "unix:x", "ovn-bridge": "br-int"}, True),
        ({"ovn-remote": "unix:x", "ovn-bridge": "br-other"}, False),
        ({"ovn-bridge": "br-int"}, False),  # nobody looks after it
        ({"system-id": "a", "ovn-remote-a": "unix:x", "ovn-bridge-a": "br-int", "ovn-bridge": "br-other"}, True),
        ({"system-id": "a", "ovn-remote-b": "unix:x"}, False),
    ],
)
def test_which_bridge_is_ovns(external_ids: dict[str, str], expected: bool) -> None:
    assert ovn.has_bridge(external_ids, "br-int") is expected


# DEL and GC

UNREAD = ("vlan", "vlan_mode", "trunk", "cvlans")


@pytest.mark.parametrize(("name", "value", "allowed"), [entry for entry in WRONG if entry[0] not in UNREAD])
def test_leniently_a_wrong_value_is_logged_and_replaced_by_its_default(
    name: str, value: Any, allowed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config = parse(keys_of(name, value), lenient=True)
    expected = {**DEFAULTS, "bridge": "" if name == "bridge" else "br1"}
    assert {attribute: getattr(config, attribute) for attribute in DEFAULTS} == expected
    logged = capfd.readouterr().err
    assert logged.startswith("cni-ovs: warning: ignored: ") and repr(name) in logged and allowed in logged


@pytest.mark.parametrize("cni_args", ["garbage", "MAC=x", "MAC"])
def test_leniently_wrong_arguments_are_logged_and_ignored(cni_args: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert parse({"runtimeConfig": {"mac": "x"}}, cni_args, lenient=True).mac is None
    assert "ignored" in capfd.readouterr().err


def test_leniently_a_wrong_key_does_not_spoil_the_others() -> None:
    config = parse({"vlan": -1, "mtu": 1400, "log_level": 0, "ipam": {"type": "static"}, "bridge": ...}, lenient=True)
    assert (config.vlans and config.vlans.tag, config.mtu, config.ipam_type, config.bridge) == (
        None,
        1400,
        "static",
        "",
    )


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(("value", "allowed"), WRONG_ATTACHMENTS)
def test_a_wrong_list_of_attachments_is_never_ignored_by_gc(value: object, allowed: str, lenient: bool) -> None:
    # Ignoring an item would remove a running container's port.
    config = parse({"cni.dev/valid-attachments": value}, lenient=lenient)
    with pytest.raises(CniError, match="valid-attachments") as caught:
        config.valid_attachments  # noqa: B018 - a property
    assert caught.value.code == 7
    assert allowed in caught.value.msg


# MAC

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


@pytest.mark.parametrize(
    ("keys", "cni_args", "expected"),
    [
        ({"runtimeConfig": {"mac": A}, "args": {"cni": {"mac": B}}}, f"MAC={C}", A),
        ({"runtimeConfig": {}, "args": {"cni": {"mac": B}}}, f"MAC={C}", B),
        ({"runtimeConfig": {"mac": ""}, "args": {"cni": {"mac": None}}}, f"MAC={C}", C),
        ({"RuntimeConfig": {"MAC": A}}, "", A),
        ({"Args": {"CNI": {"Mac": B}}}, "", B),
        ({"args": {"cni": []}, "runtimeConfig": 1}, f"MAC={C}", C),
        ({}, f"IgnoreUnknown=1;MAC={A};K8S_POD_NAME=p", A),
        ({}, f"MAC={A};MAC={B}", B),
        ({"runtimeConfig": {"mac": "02-00-00-00-00-0A"}}, "", A),
        ({}, "MAC=", None),
        ({}, f"mac={A}", None),
    ],
)
def test_the_mac_is_that_of_the_first_place_that_has_one(keys: Json, cni_args: str, expected: str | None) -> None:
    mac = parse(keys, cni_args).mac
    assert (mac.hex(":") if mac else None) == expected


WRONG_MACS = [
    ("01:00:00:00:00:01", "multicast"),
    ("ff:ff:ff:ff:ff:ff", "multicast"),
    ("00:00:00:00:00:00", "no address an interface can have"),
    ("x", "02:00:00:00:00:01"),
    ("02:00:00:00:00", "02:00:00:00:00:01"),
    ("02:00:00:00:00:0g", "02:00:00:00:00:01"),
    ("020000000001", "02:00:00:00:00:01"),
    ("2:0:0:0:0:1", "02:00:00:00:00:01"),
]


@pytest.mark.parametrize(("mac", "said"), WRONG_MACS)
def test_a_wrong_mac_is_refused_naming_its_place_and_value(mac: str, said: str) -> None:
    for keys, cni_args, code, where in (
        ({"runtimeConfig": {"mac": mac}}, f"MAC={A}", 7, "runtimeConfig.mac"),
        ({"args": {"cni": {"mac": mac}}}, f"MAC={A}", 7, "args.cni.mac"),
        ({}, f"MAC={mac}", 4, "MAC in CNI_ARGS"),
    ):
        error = refused(keys, cni_args)
        assert error.code == code
        assert where in error.msg and json.dumps(mac) in error.msg and said in error.msg


@pytest.mark.parametrize("mac", [1, True, ["02:00:00:00:00:01"], {"a": 1}])
def test_a_mac_that_is_no_text_is_refused(mac: object) -> None:
    error = refused({"runtimeConfig": {"mac": mac}})
    assert error.code == 7
    assert json.dumps(mac) in error.msg


# CNI_ARGS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (";", {}),
        (";;A=1;", {"A": "1"}),
        ("A=1;B=2", {"A": "1", "B": "2"}),
        ("B=2;A=1", {"A": "1", "B": "2"}),
        ("A=1;A=2", {"A": "2"}),
        ("A=b=c==", {"A": "b=c=="}),
        ("A=", {"A": ""}),
        ("=x", {"": "x"}),
        ("A= b ", {"A": " b "}),
    ],
)
def test_arguments_are_pairs_of_which_the_last_wins(text: str, expected: dict[str, str]) -> None:
    assert network_config.parse_cni_args(text) == expected


@pytest.mark.parametrize("text", ["A", "A=1;B", "A;B=2", " "])
def test_an_argument_that_is_no_pair_is_refused_with_its_value(text: str) -> None:
    error = refused({}, text)
    assert error.code == 4
    assert "CNI_ARGS" in error.msg
    assert repr(next(part for part in text.split(";") if "=" not in part)) in error.msg


def test_arguments_that_name_the_pod_are_recorded() -> None:
    arguments = "K8S_POD_UID=u;K8S_POD_NAME=p;K8S_POD_NAMESPACE=s;K8S_POD_INFRA_CONTAINER_ID=c;IgnoreUnknown=1"
    assert parse({}, arguments).pod == {"contPodUid": "u", "contPodName": "p", "contPodNamespace": "s"}


def test_empty_arguments_name_no_pod() -> None:
    assert parse({}, "K8S_POD_UID=;K8S_POD_NAME=p").pod == {"contPodName": "p"}


# Unknown keys


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("vlans", "vlan"),
        ("brigde", "bridge"),
        ("interfaceType", "interface_type"),
        ("socket_path", "socket_file"),
        ("externalids", "external_ids"),
        ("ofport-request", "ofport_request"),
        ("vlan_tag", "vlan"),
        ("bridge_name", "bridge"),
        ("timeuot", "timeout"),
    ],
)
def test_an_unknown_key_is_reported_with_the_nearest_known_one(
    key: str, suggestion: str, capfd: pytest.CaptureFixture[str]
) -> None:
    parse({key: 1})
    assert capfd.readouterr().err == (
        f"cni-ovs: warning: unknown key {key!r} in the network configuration is ignored; did you mean {suggestion!r}?\n"
    )


def test_many_unknown_keys_take_no_time_and_few_lines(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    parse({f"key{number:040}": 1 for number in range(20_000)} | {f"brigde{number}": 1 for number in range(20_000)})
    assert time.monotonic() - started < 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "cni-ovs: warning: and 39980 more unknown keys"


def test_an_unknown_key_that_is_like_nothing_is_reported_alone(capfd: pytest.CaptureFixture[str]) -> None:
    parse({"zzzzzzzz": 1})
    line = "cni-ovs: warning: unknown key 'zzzzzzzz' in the network configuration is ignored\n"
    assert capfd.readouterr().err == line


def test_keys_of_the_specification_and_of_clients_are_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    parse({key: {} for key in ("args", "runtimeConfig", "RuntimeConfig", "capabilities", "cni.dev/x", "prevResult")})
    assert capfd.readouterr().err == ""


def test_unknown_keys_are_not_reported_leniently(capfd: pytest.CaptureFixture[str]) -> None:
    parse({"brigde": 1}, lenient=True)
    assert capfd.readouterr().err == ""
