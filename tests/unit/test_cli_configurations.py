"""What is wrong in network configurations: every mistake, with its place, and nothing that is right."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from cni_ovs.cli.configurations import files as configurations
from cni_ovs.cli.configurations import mistakes, source
from cni_ovs.cli.configurations.source import Problem, Source
from cni_ovs.cli.failure import Failure
from cni_ovs.plugin import config as network_config
from cni_ovs.plugin.errors import CniError
from tests.unit.test_any_input import configs
from tests.unit.test_configuration import WRONG, keys_of
from tests.unit.tools import Json

REPOSITORY = Path(__file__).parents[2]
RIGHT: Json = {"cniVersion": "1.0.0", "name": "n", "type": "ovs", "bridge": "b"}
PRODUCER: Json = {"type": "ovs-mirror-producer", "bridge": "b", "mirrors": [{"name": "m", "ingress": True}]}


def chain(*plugins: Json, **more: Any) -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": "n", **more, "plugins": plugins}, indent=1)


def problems(where: Path | str) -> list[Problem]:
    """What is wrong in a file (a Path), or in a text."""
    try:
        text = Source("<text>", where) if isinstance(where, str) else source.read(str(where))
    except Failure as error:
        return [source.unreadable(str(where), error)]
    return configurations.problems_of(text)


def told(text: str) -> list[tuple[str, str]]:
    """What is said of a text: where it begins, and the message."""
    return [(at(text, problem), problem.message) for problem in problems(text)]


def at(text: str, problem: Problem) -> str:
    return text.split("\n")[problem.line - 1][problem.column - 1 :][: problem.length]


@pytest.mark.parametrize(
    "path", sorted([*(REPOSITORY / "conf").glob("*.conf*"), *(REPOSITORY / "conf").rglob("*.y*ml")])
)
def test_every_example_is_right(path: Path) -> None:
    assert problems(path) == []


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_what_add_refuses_is_an_error_at_its_value(name: str, value: Any, allowed: str) -> None:
    values = {**RIGHT, **keys_of(name, value)}
    text = json.dumps(values)
    error = problems(text)[-1]
    assert error.severity == "error" and allowed in error.message + error.remedy
    if name != "bridge" or value != "":
        assert text[error.column - 1 :].startswith(json.dumps(value)[:1]) or isinstance(value, (list, dict))


@given(configs)
def test_there_is_an_error_if_add_refuses_a_configuration(values: Json) -> None:
    values = {key: value for key, value in values.items() if "cni.dev" not in key}
    try:
        network_config.parse(values, b"", "")
        refused = False
    except CniError:
        refused = True
    found, _ = mistakes.of_plugin({**values, "name": "n", "cniVersion": "1.0.0"})
    is_error = any(entry.severity == "error" and "unknown" not in entry.message for entry in found)
    assert is_error or not refused


def test_all_mistakes_are_told_in_the_order_of_the_lines() -> None:
    text = """{
  "cniVersion": "1.0.0", "name": "a b", "plugins": [
    {"type": "ovs", "brigde": "b", "vlna": 5, "mtu": 5,
     "trunk": [{"id": 5}, {"id": 5000}, {"minID": 7}], "ipam": {"type": "a/b"},
     "external_ids": {"a": "b", "c": 1}, "bandwidth": {"egressRate": 5}}
  ]
}"""
    assert told(text) == [
        ('"a b"', "invalid 'name': \"a b\""),
        ("{", "'bridge' is missing in the network configuration"),
        ('"brigde"', "unknown key 'brigde' in the network configuration is ignored"),
        ('"vlna"', "unknown key 'vlna' in the network configuration is ignored"),
        ("5", "invalid 'mtu': 5: must be an integer from 68 to 65535"),
        *(
            (item, f"invalid 'trunk[{number}]': {item}: it must be a list of {{\"id\": N}} and "
                   f'{{"minID": A, "maxID": B}}, numbers from 0 to 4094')
            for number, item in ((1, '{"id": 5000}'), (2, '{"minID": 7}'))
        ),
        ('"a/b"', "invalid 'ipam.type': \"a/b\": must be the file name of an IPAM plugin, without a path"),
        ("1", "invalid 'external_ids.c': 1: must be an object whose values are strings"),
        ("5", "invalid 'bandwidth.egressRate': 5: must be an integer of bits per second, 1000 to 1000000000000000, "
              "or 0 for no limit (10 Mbit/s is 10000000)"),
    ]  # fmt: skip


def test_the_nearest_key_and_what_to_do_is_the_remedy() -> None:
    remedies = [problem.remedy for problem in problems(json.dumps({**RIGHT, "vlna": 1, "bridge": None}))]
    assert remedies == ['name the bridge ("br-int", if CNI_ARGS will name a port of OVN)', "did you mean 'vlan'?"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vlan": "x", "vlan_mode": "dot1q-tunnel"}, "invalid 'vlan'"),
        ({"ipam": {"type": "a/b"}, "ipspoofchk": True}, "invalid 'ipam.type'"),
        ({"deviceID": "x", "bridge": None}, "invalid 'deviceID'"),
        ({"ipam": {"type": "a/b"}, "cniVersion": "0.2.0"}, "invalid 'ipam.type'"),
        ({"macspoofcheck": True}, "there are 'macspoofchk'"),
        ({"mtu": 1500, "MTU": 1400}, "the same key"),
        ({"cniVersion": "9.9"}, "must be one of 0.1.0"),
        ({"cniVersion": None}, "0.1.0"),
        ({"cniVersion": "0.2.0"}, "cannot express a result without an address"),
        ({"name": ""}, "'name' is missing"),
        ({"type": None}, "'type' is missing"),
        ({"type": 5}, "invalid 'type'"),
        ({"type": "ovs-mirror-prodcuer"}, "there is no plugin"),
        (PRODUCER, "goes behind 'ovs' in a chain"),
        ({"log_file": "x"}, "absolute path"),
    ],
)
def test_one_mistake_is_one_problem(keys: Json, message: str) -> None:
    [problem] = problems(json.dumps({**RIGHT, **keys}))
    assert message in problem.message and problem.severity == "error"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RIGHT),
        json.dumps({"type": "bridge", "vlna": 5}),  # of others only the type is looked at
        json.dumps({**RIGHT, "cniVersion": "0.2.0", "ipam": {"type": "static"}}),
        json.dumps({**RIGHT, "log_file": "/no/such/folder/log"}),  # on the node it may be there
        chain({"type": "ovs", "bridge": "b"}, {"type": "tuning", "x": []}, PRODUCER),
    ],
)
def test_what_is_right_has_no_problem(text: str) -> None:
    assert problems(text) == []


def test_a_log_file_is_not_made(tmp_path: Path) -> None:
    assert problems(json.dumps({**RIGHT, "log_file": str(tmp_path / "log")})) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (chain(PRODUCER, {"type": "ovs", "bridge": "b"}), '"ovs-mirror-producer"', "goes behind 'ovs'"),
        (chain({"type": "ovs", "bridge": "a"}, PRODUCER), '"b"', "is not that of 'ovs' before it, 'a'"),
        (chain({"type": "ovs", "bridge": "b"}, vlan=5), '"vlan"', "reaches no plugin"),
        (chain({"type": "ovs", "bridge": "b"}, name="?"), '"?"', "invalid 'name'"),
        (chain({"type": "ovs", "bridge": "b"}, cniVersion="0.1.0"), '"0.1.0"', "without an address"),
        (chain({"type": "portmap"}, name=None), "{", "'name' is missing"),
        (chain(), "[]", "must be a list of objects"),
        (chain({"tpye": "ovs"}), "{", "'type' is missing"),
        ('{"name": "n", "plugins": [5]}', "5", "must be an object"),
        ('{"name": "n", "plugins": {}}', "{}", "must be a list"),
        ("[]", "[", "must be an object"),
        ('{"type": "bridge", "a": {"b": 1, "b": 2}}', '"b"', "is there twice"),
    ],
)
def test_a_chain_is_looked_at_as_a_whole(text: str, place: str, message: str) -> None:
    found = [(at(text, problem), problem.message) for problem in problems(text)]
    assert [where for where, what in found if message in what] == [place], found


def test_a_hostile_list_gives_few_problems() -> None:
    text = json.dumps({**RIGHT, "trunk": [{"id": 9999}] * 10_000} | {f"brigde{number}": 1 for number in range(10_000)})
    assert 200 <= len(problems(text)) <= 210


# Kubernetes


def definition(config: Json, resource: str = "") -> str:
    annotations = {"k8s.v1.cni.cncf.io/resourceName": resource} if resource else {}
    whole = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}
    return json.dumps(
        {**whole, "metadata": {"name": "n", "annotations": annotations}, "spec": {"config": json.dumps(config)}}
    )


def test_a_definition_needs_no_name_and_no_bridge_where_it_gets_a_device() -> None:
    keys = {"cniVersion": "1.0.0", "type": "ovs"}
    assert problems(definition({**keys, "bridge": "b"})) == []
    assert problems(definition(keys, "openshift.io/vf")) == []
    for resource in ("", "ovs-cni.network.kubevirt.io/br1"):  # which is no device
        [problem] = problems(definition(keys, resource))
        assert "'bridge' is missing" in problem.message


# Flat files


def test_what_a_flat_file_says_counts_and_is_looked_at_too(tmp_path: Path) -> None:
    flat = tmp_path / "flat.conf"
    flat.write_text('{"bridge": "b",\n "mtu": 5, "vlna": 1, "name": "x"}')
    text = json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "ovs", "configuration_path": str(flat)})
    found = problems(text)
    assert [(problem.path, problem.line, problem.severity) for problem in found] == [
        (str(flat), 2, "error"),
        (str(flat), 2, "error"),
        (str(flat), 2, "warning"),
    ]
    assert "invalid 'mtu': 5" in found[0].message and "'vlna'" in found[1].message


def test_one_that_is_elsewhere_may_have_what_is_missing(tmp_path: Path) -> None:
    text = json.dumps(
        {"cniVersion": "1.0.0", "name": "n", "type": "ovs", "configuration_path": "/no/flat.conf", "mtu": 5}
    )
    assert [problem.severity for problem in problems(text)] == ["warning", "error"]


def test_one_that_others_can_write_to_is_an_error(tmp_path: Path) -> None:
    flat = tmp_path / "flat.conf"
    flat.write_text('{"bridge": "b"}')
    flat.chmod(0o666)
    [problem] = problems(json.dumps({**RIGHT, "configuration_path": str(flat)}))
    assert "others than root can write" in problem.message and "chmod" in problem.remedy


def test_a_flat_file_is_known_by_its_folder_or_because_it_names_no_network(tmp_path: Path) -> None:
    (tmp_path / "net.d/ovs.d").mkdir(parents=True)
    for name, is_flat in (("net.d/ovs.d/ovs.conf", True), ("net.d/ovs.conf", False), ("ovs.conf", True)):
        path = tmp_path / name
        path.write_text('{"mtu": 1400}')
        assert (problems(path) == []) is is_flat


# Finding them


def test_a_network_is_found_by_its_name_in_the_first_file_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "20.conf").write_text(json.dumps({**RIGHT, "name": "a", "vlan": 1}))
    (tmp_path / "10.conflist").write_text(chain({"type": "ovs", "bridge": "b"}, name="a"))
    (tmp_path / "30.json").write_text(json.dumps({**RIGHT, "name": "b"}))
    (tmp_path / "00.yaml").write_text(definition({**RIGHT, "name": "c"}))
    folders = ("/no/such/folder", str(tmp_path))
    assert configurations.find("a", folders).source.name == str(tmp_path / "10.conflist")
    assert configurations.find("a", folders).plugins == [
        (("plugins", 0), {"type": "ovs", "bridge": "b", "name": "a", "cniVersion": "1.0.0"})
    ]
    assert configurations.find("b", folders).values["name"] == "b"
    for name, remedy in (("zzzz", "there are 'a', 'b'"), ("c", "did you mean 'a'?")):
        with pytest.raises(Failure, match="no network") as caught:
            configurations.find(name, folders)
        assert caught.value.remedy == remedy
    (tmp_path / "40.conf").write_text("{")
    with pytest.raises(Failure, match="no network") as caught:
        configurations.find("zzz", folders)
    assert "40.conf cannot be read" in caught.value.remedy


@pytest.mark.parametrize("kind", ["folder", "FIFO", "device", "loop", "nothing", "no path", "not UTF-8", "large"])
def test_what_cannot_be_read_is_a_problem_of_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.conf"
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind in ("device", "loop"):
        path.symlink_to("/dev/zero" if kind == "device" else path)
    elif kind == "not UTF-8":
        path.write_bytes(b'{\r\n "n\xc3\xbc": "\xff"}')
    elif kind == "large":
        path.write_bytes(b" " * (17 << 20))
    elif kind == "no path":
        path = tmp_path / "x\0.conf"
    [problem] = problems(path)
    assert problem.severity == "error" and problem.path == str(path)
    if kind == "not UTF-8":
        assert (problem.line, problem.column) == (2, 9)
    else:
        assert problem.line == 0
