"""The protocol: what an invocation must bring, in which order that is looked at, versions, and the form of errors."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni_ovs import __version__
from cni_ovs.plugin import protocol
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from tests.unit.tools import (
    CONFIG,
    ENVIRONMENT,
    NO_NETNS,
    NO_SOCKET,
    NOWHERE,
    VERSIONS,
    handle,
    invoke,
    refuse_to_read,
)

REPOSITORY = Path(__file__).parents[2]
# DEL looks for a device in the kernel, over a socket that lasts as long as the process.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

REQUIRED = {
    "ADD": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
    "CHECK": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
    "DEL": ["CNI_CONTAINERID", "CNI_IFNAME"],
    "GC": ["CNI_PATH"],
    "STATUS": [],
}
FIRST_VERSION = {"ADD": "0.1.0", "DEL": "0.1.0", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
# With CONFIG, how each command ends that got past everything this module is about: no such namespace, no prevResult,
# no database (twice), nothing to do.
PAST_CHECKS = {"ADD": 4, "CHECK": 7, "DEL": 11, "STATUS": 50, "GC": None}


# Environment


@pytest.mark.parametrize("command", REQUIRED)
def test_all_missing_variables_are_named_in_one_error(command: str) -> None:
    if REQUIRED[command]:
        error = handle({"CNI_COMMAND": command}).error(4)
        assert error["msg"] == f"required env variables [{','.join(REQUIRED[command])}] missing"


@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
@pytest.mark.parametrize(("command", "name"), [(c, n) for c, names in REQUIRED.items() for n in names])
def test_each_required_variable_is_missed(command: str, name: str, empty: bool) -> None:
    error = invoke(command, refuse_to_read, **{name: "" if empty else None}).error(4)
    assert error["msg"] == f"required env variables [{name}] missing"


@pytest.mark.parametrize("command", REQUIRED)
def test_no_other_variable_is_required(command: str) -> None:
    variables = {"CNI_COMMAND": command} | {name: ENVIRONMENT[name] for name in REQUIRED[command]}
    outcome = handle(variables, CONFIG)
    expected = PAST_CHECKS[command]
    if expected is None:
        outcome.silent()
    else:
        assert "required env variables" not in outcome.error(expected)["msg"]


@pytest.mark.parametrize("command", ["add", "ADD ", "UPDATE", "\udcff", "None"])
def test_an_unknown_command_is_named(command: str) -> None:
    error = handle({"CNI_COMMAND": command}).error(4)
    assert error["msg"] == f"unknown CNI_COMMAND: {command}"


@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL"])
@pytest.mark.parametrize("container", ["-a", ".a", "_a", " a", "a b", "a/b", "a\n", "ä", "a\u0663", "a\udcff", "{id}"])
def test_a_container_id_of_another_form_is_refused_with_its_value(command: str, container: str) -> None:
    error = invoke(command, refuse_to_read, CNI_CONTAINERID=container).error(4)
    assert error["msg"] == f"invalid CNI_CONTAINERID: {container!r}"


@pytest.mark.parametrize("container", ["a", "0", "A.b-c_d", "a.", "x" * 4096])
def test_a_container_id_may_be_of_any_length(container: str) -> None:
    assert "prevResult" in invoke("CHECK", CNI_CONTAINERID=container).error(7)["msg"]


@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL"])
@pytest.mark.parametrize(
    "name", ["x" * 16, "ä" * 8, ".", "..", "a/b", "a:b", "a b", "a\t", "\n", "a\u00a0", "a\u2003b", "\udcff"]
)
def test_an_interface_name_that_no_kernel_takes_is_refused_with_its_value(command: str, name: str) -> None:
    error = invoke(command, refuse_to_read, CNI_IFNAME=name).error(4)
    assert error["msg"] == f"invalid CNI_IFNAME: {name!r}"
    assert error["details"]


@pytest.mark.parametrize("name", ["e", "eth0", "x" * 15, "ä" * 7, "...", "net-1.2@3"])
def test_an_interface_name_of_up_to_15_bytes_is_taken(name: str) -> None:
    assert "prevResult" in invoke("CHECK", CNI_IFNAME=name).error(7)["msg"]


@pytest.mark.parametrize("name", ["CNI_NETNS", "CNI_ARGS"])
def test_variables_that_are_not_utf8_are_refused(name: str) -> None:
    assert name in invoke("ADD", refuse_to_read, **{name: "MAC=\udc80"}).error(4)["msg"]


@pytest.mark.parametrize("command", ["STATUS", "GC"])
def test_variables_of_an_attachment_do_not_matter_where_there_is_none(command: str) -> None:
    outcome = invoke(command, CNI_CONTAINERID="/", CNI_IFNAME="x" * 99, CNI_NETNS=None)
    assert outcome.exit_code == 0 or outcome.error(50)


# The order in which mistakes are found: each of these makes all the later ones as well.


def test_mistakes_are_reported_in_the_order_of_the_contract() -> None:
    def unreadable() -> bytes:
        raise CniError(5, "stdin is unreadable")

    broken = json.dumps({"name": "-", "cniVersion": "9", "vlan": -1, "bridge": "b", "ipam": {"type": "x"}})
    steps = [
        ({"CNI_COMMAND": "DO", "CNI_IFNAME": ""}, unreadable, 4, "unknown CNI_COMMAND"),
        ({"CNI_IFNAME": "", "CNI_CONTAINERID": "/"}, unreadable, 4, "required env variables [CNI_IFNAME] missing"),
        ({"CNI_CONTAINERID": "/", "CNI_IFNAME": "/"}, unreadable, 4, "invalid CNI_CONTAINERID"),
        ({"CNI_IFNAME": "/"}, unreadable, 4, "invalid CNI_IFNAME"),
        ({}, unreadable, 5, "stdin is unreadable"),
        ({}, broken[:-1], 6, "not valid JSON"),
        ({}, broken, 7, "invalid network name"),
        ({}, broken.replace('"-"', '"n"'), 1, "incompatible CNI versions"),
        ({}, broken.replace('"-"', '"n"').replace('"9"', '"1.0.0"'), 7, "vlan"),
        ({}, broken.replace('"-"', '"n"').replace('"9"', '"1.0.0"').replace("-1", "1"), 4, "[CNI_PATH] missing"),
    ]
    for variables, stdin, code, text in steps:
        complete = {"CNI_COMMAND": "ADD", **ENVIRONMENT, "CNI_PATH": "", **variables}
        error = handle(complete, stdin.encode() if isinstance(stdin, str) else stdin).error(code)
        assert text in error["msg"]


@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_the_path_is_required_once_there_is_ipam(command: str) -> None:
    error = invoke(command, CONFIG | {"ipam": {"type": "static"}}, CNI_PATH=None).error(4)
    assert error["msg"] == "required env variables [CNI_PATH] missing"


# stdin


@pytest.mark.parametrize("command", REQUIRED)
@pytest.mark.parametrize(
    "stdin",
    [b"", b" ", b"{", b"{}}", b'{"name": "n",}', b"{'name': 'n'}", b"\xff", b"\xef\xbb\xbf{}", b'{"name": NaN}'],
)
def test_what_is_no_json_is_a_decoding_error(command: str, stdin: bytes) -> None:
    assert "JSON" in invoke(command, stdin).error(6)["msg"]


@pytest.mark.parametrize("stdin", [b"null", b"[]", b'"name"', b"1", b"true"])
def test_json_that_is_no_object_is_a_decoding_error_with_its_value(stdin: bytes) -> None:
    assert stdin.decode() in invoke("ADD", stdin).error(6)["msg"]


@pytest.mark.parametrize("place", ["whole", "name", "cniVersion", "bridge", "vlan", "timeout", "ipam", "dns", "trunk"])
@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_a_number_beyond_all_limits_is_refused_like_any_other(place: str, number: str) -> None:
    config = json.dumps(CONFIG | {place: "NUMBER"}).replace('"NUMBER"', number)
    invoke("STATUS", (number if place == "whole" else config).encode()).error(2, 6, 7)


@pytest.mark.parametrize("key", ["name", "vlan", "trunk", "unknown", "prevResult"])
def test_a_value_that_is_nested_as_deeply_as_can_be_read_can_be_shown(key: str) -> None:
    def nested(depth: int) -> bytes:
        return json.dumps(CONFIG | {key: "X"}).replace('"X"', "[" * depth + "]" * depth).encode()

    # Find out what this Python reads, then look at the neighbourhood: messages are made with more on the stack.
    readable, unreadable = 1, 200_000
    while unreadable - readable > 1:
        depth = (readable + unreadable) // 2
        if "deeply" in invoke("STATUS", nested(depth)).stdout:
            unreadable = depth
        else:
            readable = depth
    for depth in range(max(1, readable - 30), readable + 30):
        invoke("STATUS", nested(depth)).error(2, 6, 7, 50)


@pytest.mark.parametrize("command", REQUIRED)
@pytest.mark.parametrize("config", [{}, {"name": ""}, {"name": None}], ids=["absent", "empty", "null"])
def test_a_missing_network_name_is_a_mistake_of_the_configuration(command: str, config: object) -> None:
    assert "missing network name" in invoke(command, config).error(7)["msg"]


@pytest.mark.parametrize("name", ["-n", ".n", "a b", "a/b", "ä", "n\n", 1, True, ["n"], {"n": 1}])
def test_a_network_name_of_another_form_is_refused_with_its_value(name: object) -> None:
    assert json.dumps(name) in invoke("ADD", CONFIG | {"name": name}).error(7)["msg"]


def test_keys_are_found_whatever_their_case() -> None:
    config = {"NAME": "n", "CNIVersion": "1.1.0", "Bridge": "br1", "SOCKET_FILE": NO_SOCKET}
    assert NO_SOCKET in invoke("STATUS", config).error(50)["msg"]


# Versions


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("command", REQUIRED)
def test_a_command_needs_the_version_that_introduced_it(command: str, version: str) -> None:
    outcome = invoke(command, CONFIG | {"cniVersion": version})
    if VERSIONS.index(version) < VERSIONS.index(FIRST_VERSION[command]):
        error = outcome.error(1)
        assert "incompatible CNI versions" in error["msg"]
        assert version in error["details"]
    elif outcome.exit_code:
        assert outcome.error(4, 7, 11, 50)["cniVersion"] == version


@pytest.mark.parametrize("version", ["0.0.1", "0.3", "0.3.2", "1.0", "1.1.0 ", "v1.1.0", "1.1.1", "2.0.0", "1.1.0-rc1"])
def test_an_unknown_version_is_refused_with_both_sides_versions(version: str) -> None:
    error = invoke("ADD", CONFIG | {"cniVersion": version}).error(1)
    assert error["msg"] == "incompatible CNI versions"
    assert json.dumps(version) in error["details"]
    assert all(known in error["details"] for known in VERSIONS)


@pytest.mark.parametrize("config", [{}, {"cniVersion": ""}, {"cniVersion": None}], ids=["absent", "empty", "null"])
def test_no_version_means_the_first_one(config: dict[str, object]) -> None:
    without = {key: value for key, value in CONFIG.items() if key != "cniVersion"}
    error = invoke("ADD", without | config).error(7)
    assert error["cniVersion"] == "0.1.0"


@pytest.mark.parametrize("version", [1, 1.1, True, ["1.1.0"], {}])
def test_a_version_that_is_no_text_is_refused_with_its_value(version: object) -> None:
    assert json.dumps(version) in invoke("ADD", CONFIG | {"cniVersion": version}).error(6)["msg"]


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_an_attachment_without_addresses_is_refused_where_the_result_could_not_say_it(version: str) -> None:
    error = invoke("ADD", CONFIG | {"cniVersion": version}).error(7)
    assert version in error["msg"] and "ipam" in error["msg"]


def test_version_answers_without_reading_stdin_or_looking_at_variables() -> None:
    outcome = handle({"CNI_COMMAND": "VERSION", "CNI_IFNAME": "/", "CNI_CONTAINERID": "/"}, refuse_to_read)
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout) == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize(
    ("command", "stream", "said"),
    [("VERSION", "stdout", '"supportedVersions"'), ("", "stderr", __version__), (None, "stderr", ", ".join(VERSIONS))],
    ids=["version", "about-empty", "about"],
)
def test_version_and_about_do_not_wait_for_stdin(command: str | None, stream: str, said: str) -> None:
    environment = {} if command is None else {"CNI_COMMAND": command}
    with subprocess.Popen(
        [sys.executable, "-m", "cni_ovs.plugin"],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,  # open until the end
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.wait(10) == 0
            assert process.stdout and process.stderr
            printed = {"stdout": process.stdout.read(), "stderr": process.stderr.read()}
        finally:
            process.kill()
    assert said in printed.pop(stream)
    assert list(printed.values()) == [""]


# What the commands say that found everything in order, and went on


def test_add_names_a_namespace_that_cannot_be_opened() -> None:
    assert NO_NETNS in invoke("ADD").error(4)["msg"]


@pytest.mark.parametrize("path", ["/", "/proc/self/status", "relative/path", "/proc/self/ns/mnt"])
def test_add_names_a_path_that_is_no_network_namespace(path: str) -> None:
    assert path in invoke("ADD", CNI_NETNS=path).error(4)["msg"]


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_the_namespace_of_the_plugin_itself_is_refused(command: str) -> None:
    config = CONFIG | {"prevResult": {"interfaces": []}}
    assert "/proc/self/ns/net" in invoke(command, config, CNI_NETNS="/proc/self/ns/net").error(8)["msg"]


@pytest.mark.parametrize("previous", [{"ips": 1}, {"interfaces": [{}]}, {"ips": [{"address": "1.2.3.4"}]}])
@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_wrong_previous_result_is_a_mistake_of_the_configuration(command: str, previous: object) -> None:
    assert "prevResult" in invoke(command, CONFIG | {"prevResult": previous}).error(7)["msg"]


@pytest.mark.parametrize("command", ["DEL", "STATUS"])
def test_a_database_that_is_not_there_is_named_with_what_to_do(command: str) -> None:
    error = invoke(command).error(PAST_CHECKS[command] or 0)
    assert NO_SOCKET in error["msg"]
    assert "ovsdb-server" in error["details"]


def test_gc_without_a_list_of_attachments_does_nothing() -> None:
    invoke("GC").silent()


@pytest.mark.parametrize("attachments", [[], None], ids=["empty", "null"])
def test_gc_with_an_empty_list_asks_for_the_ports(attachments: object) -> None:
    assert NO_SOCKET in invoke("GC", CONFIG | {"cni.dev/valid-attachments": attachments}).error(11)["msg"]


@pytest.mark.parametrize(
    "change",
    [
        {"bridge": None},
        {"bridge": 1},
        {"vlan": 5000},
        {"mtu": "big"},
        {"timeout": 0},
        {"ipam": "static"},
        {"external_ids": []},
        {"trunk": [{"minID": 1}]},
        {"cvlans": [{"id": 1}]},
        {"dns": 1},
        {"prevResult": "gone"},
        {"log_file": NOWHERE + "/log"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_del_goes_on_with_a_configuration_that_add_refuses(change: dict[str, object]) -> None:
    assert invoke("ADD", CONFIG | change).error(2, 7)
    assert NO_SOCKET in invoke("DEL", CONFIG | change).error(11)["msg"]


def test_del_goes_on_with_arguments_that_add_refuses() -> None:
    assert invoke("ADD", CNI_ARGS="garbage").error(4)
    assert NO_SOCKET in invoke("DEL", CNI_ARGS="garbage").error(11)["msg"]


@pytest.mark.parametrize("netns", ["", None, NO_NETNS, "/proc/self/ns/net", "/"])
def test_del_does_not_look_at_the_namespace(netns: str | None) -> None:
    assert NO_SOCKET in invoke("DEL", CNI_NETNS=netns).error(11)["msg"]


# The edge


def test_the_configured_timeout_becomes_that_of_the_command() -> None:
    deadline = Deadline(1000)
    code, _ = protocol.handle({"CNI_COMMAND": "STATUS"}, lambda: json.dumps(CONFIG | {"timeout": 7}).encode(), deadline)
    assert code == 1
    assert 6 < deadline.remaining() <= 7


def test_an_unexpected_exception_is_told_in_the_form_of_an_error() -> None:
    def stumble() -> bytes:
        raise LookupError("nobody expected this")

    error = invoke("ADD", stumble).error(999)
    assert "LookupError: nobody expected this" in error["msg"]
    assert error["details"].endswith(" in stumble") and "protocol.py:" in error["details"]


def test_a_system_that_is_short_of_something_is_no_unexpected_error() -> None:
    def refuse() -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    assert "Too many open files" in invoke("ADD", refuse).error(5)["msg"]


def test_an_error_is_also_logged(capfd: pytest.CaptureFixture[str]) -> None:
    error = invoke("STATUS").error(50)
    assert f"cni-ovs: error: STATUS: {error['msg']}" in capfd.readouterr().err
