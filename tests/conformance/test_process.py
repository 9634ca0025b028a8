"""CNI contract, section "Process" (points 1 to 8): variables, streams, exit codes, order of the checks, deadlines."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.plugin import VERSIONS, Attachment, Json
from tests.support.processes import ends, wait_for

REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
}


# Streams and exit codes (1)


@pytest.mark.contract(1)
def test_add_prints_one_object_and_every_other_command_prints_nothing(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local())
    added = pod.add().ok()
    assert added.printed is not None
    pod.check().silent()
    pod.status().silent()
    pod.gc(**{"cni.dev/valid-attachments": [{"containerID": pod.container_id, "ifname": "net1"}]}).silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(1)
def test_logs_go_to_stderr_and_never_to_stdout(node: Node) -> None:
    pod = node.attachment(log_level="debug")
    added = pod.add()
    assert added.result["cniVersion"] == "1.1.0"
    assert "cni-ovs: debug: " in added.stderr.lower()
    deleted = pod.delete().silent()
    assert "cni-ovs: debug: " in deleted.stderr.lower()


@pytest.mark.contract(1, 27)
def test_a_failure_prints_one_error_object_and_ends_with_1(node: Node) -> None:
    pod = node.attachment(bridge="nosuchbridge")
    error = pod.add().error(100)
    assert "nosuchbridge" in error["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(1, 14)
def test_a_result_that_cannot_be_written_is_a_failure_and_is_undone(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local())
    wrapper = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    outcome = node.plugin.run(pod.environment("ADD"), pod.config, wrapper=wrapper)
    assert outcome.exit_code == 1
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(1, 14)
def test_running_out_of_file_descriptors_is_an_error_in_json_and_leaves_nothing(node: Node) -> None:
    """The limit is raised until ADD succeeds, so the shortage strikes at one place after another."""
    pod = node.attachment(ipam=node.host_local())
    started = False
    for limit in range(4, 64):
        wrapper = ("prlimit", f"--nofile={limit}:{limit}")
        asked = node.plugin.run(node.plugin.environment(CNI_COMMAND="VERSION"), wrapper=wrapper)
        started = started or (asked.exit_code == 0 and asked.printed is not None)
        if not started:
            continue  # too few for the interpreter itself
        outcome = node.plugin.run(pod.environment("ADD"), pod.config, wrapper=wrapper)
        if outcome.exit_code == 0:
            break
        assert "Traceback" not in outcome.error()["msg"]
        node.assert_nothing_left()
    else:
        pytest.fail("ADD does not even succeed with 63 file descriptors")
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(1)
def test_json_that_is_hard_to_read_is_an_ordinary_error(node: Node) -> None:
    pod = node.attachment()
    for stdin in (
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"mtu":' + "9" * 5000 + "}",
        '{"name":"\\ud800","type":"ovs"}',
        '{"cniVersion":"1.1.0","name":"x","type":"ovs","bridge":"x","mtu":1e400}',
        '{"cniVersion":"1.1.0","name":"x","type":"ovs","bridge":"x","mtu":NaN}',
    ):
        outcome = node.plugin.run(pod.environment("ADD"), stdin)
        outcome.error(6, 7)
        assert "Traceback" not in outcome.stderr


@pytest.mark.contract(1)
def test_text_that_no_terminal_can_show_does_not_break_the_answer(node: Node) -> None:
    log = node.folder / "log"
    config = node.config(nosuchkey_ü="\ud800", log_file=str(log))
    pod = node.attachment()
    pod.config = config
    pod.add().ok()
    pod.delete().silent()


# Variables (2, 3)


@pytest.mark.one_target
@pytest.mark.contract(2)
@pytest.mark.parametrize("command", REQUIRED)
def test_all_missing_variables_are_named_in_one_error(node: Node, command: str) -> None:
    outcome = node.plugin.run(node.plugin.environment(CNI_COMMAND=command), node.config())
    error = outcome.error(4)
    assert error["msg"].startswith("required env variables [") and error["msg"].endswith("] missing")
    named = error["msg"].removeprefix("required env variables [").removesuffix("] missing").split(",")
    assert sorted(named) == sorted(REQUIRED[command])


@pytest.mark.one_target
@pytest.mark.contract(2)
@pytest.mark.parametrize("command", REQUIRED)
def test_an_empty_variable_is_a_missing_one(node: Node, command: str) -> None:
    pod = node.attachment()
    for variable in REQUIRED[command]:
        error = node.plugin.run(pod.environment(command, **{variable: ""}), pod.config).error(4)
        assert error["msg"] == f"required env variables [{variable}] missing"


@pytest.mark.contract(2)
def test_cni_path_is_not_needed_without_ipam(node: Node) -> None:
    pod = node.attachment()
    pod.add(CNI_PATH=None).ok()
    pod.check(CNI_PATH=None).silent()
    pod.delete(CNI_PATH=None).silent()
    node.assert_nothing_left()


@pytest.mark.contract(2)
def test_cni_path_is_needed_as_soon_as_there_is_ipam(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local())
    assert "CNI_PATH" in pod.add(CNI_PATH=None).error(4)["msg"]
    assert "CNI_PATH" in pod.add(CNI_PATH="").error(4)["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(2)
def test_status_and_version_need_the_command_only(node: Node) -> None:
    node.plugin.run(node.plugin.environment(CNI_COMMAND="STATUS"), node.config()).silent()
    assert "supportedVersions" in node.plugin.run(node.plugin.environment(CNI_COMMAND="VERSION")).result


@pytest.mark.one_target
@pytest.mark.contract(3)
@pytest.mark.parametrize("container_id", ["a", "0", "A_b.c-D", "x" * 1000])
def test_every_container_id_of_the_right_form_is_accepted(node: Node, container_id: str) -> None:
    pod = node.attachment(container_id=container_id)
    pod.add().ok()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(3)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_a_container_id_of_another_form_is_refused(node: Node, command: str) -> None:
    pod = node.attachment()
    for container_id in ("-a", ".a", "_a", "a/b", "a b", "a:b", "ä", "a\n", "aü"):
        error = pod.run(command, CNI_CONTAINERID=container_id).error(4)
        assert "CNI_CONTAINERID" in error["msg"] or container_id.strip() in error["msg"] + error.get("details", "")
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(3)
@pytest.mark.parametrize("ifname", ["e", "eth0", "abcdefghijklmno", "a.b", "a-b_c", "..."])
def test_every_interface_name_that_linux_takes_is_accepted(node: Node, ifname: str) -> None:
    pod = node.attachment(ifname=ifname)
    pod.add().ok()
    assert ifname in pod.sandbox.links()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(3)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_an_interface_name_that_linux_refuses_is_refused(node: Node, command: str) -> None:
    pod = node.attachment()
    for ifname in (".", "..", "a/b", "a:b", "a b", "a\tb", "a\n", "abcdefghijklmnop", "üüüüüüüü"):
        error = pod.run(command, CNI_IFNAME=ifname).error(4)
        assert "CNI_IFNAME" in error["msg"] or "interface name" in error["msg"]
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(3)
def test_an_unknown_command_is_refused_with_its_name(node: Node) -> None:
    pod = node.attachment()
    for command in ("add", "REMOVE", "X", "ADD "):
        assert pod.run(command).error(4)["msg"] == f"unknown CNI_COMMAND: {command}"


# Order of the checks (4)


@pytest.mark.contract(4)
def test_the_environment_is_checked_before_stdin(node: Node) -> None:
    environment = node.plugin.environment(CNI_COMMAND="ADD")
    node.plugin.run(environment, "this is not JSON").error(4)


@pytest.mark.contract(4)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_stdin_that_cannot_be_read_is_an_io_error(node: Node, command: str) -> None:
    pod = node.attachment()
    with open("/dev/null", "wb") as unreadable:
        node.plugin.run(pod.environment(command), unreadable).error(5)


@pytest.mark.contract(4)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_what_is_no_json_is_a_decoding_error(node: Node, command: str) -> None:
    pod = node.attachment()
    for stdin in ("", "{", "nonsense", '{"name": "x"} {}', b'{"name": "\xff"}', "{'name': 'x'}", '{"name": "x",}'):
        node.plugin.run(pod.environment(command), stdin).error(6)


@pytest.mark.contract(4)
def test_json_that_is_no_object_is_an_error(node: Node) -> None:
    pod = node.attachment()
    for stdin in ("[]", '"text"', "3", "null", "true"):
        node.plugin.run(pod.environment("ADD"), stdin).error(6, 7)


@pytest.mark.one_target
@pytest.mark.contract(4)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_a_network_name_that_is_missing_or_malformed_is_a_configuration_error(node: Node, command: str) -> None:
    pod = node.attachment()
    for name in (None, "", "-a", "a b", "a/b", 3, ["a"]):
        pod.config = node.config(name=name)
        assert "name" in pod.run(command).error(7)["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(4)
def test_the_name_is_checked_before_the_version(node: Node) -> None:
    node.attachment(name="not a name", cniVersion="9.9.9", cni_path="/usr/lib/cni").add().error(7)


@pytest.mark.contract(4)
def test_version_does_not_wait_for_stdin(node: Node) -> None:
    reading, writing = os.pipe()  # never written to and never closed while VERSION runs
    try:
        with os.fdopen(reading, "rb") as stdin:
            outcome = node.plugin.run(node.plugin.environment(CNI_COMMAND="VERSION"), stdin, timeout=5)
    finally:
        os.close(writing)
    assert outcome.result["supportedVersions"] == list(VERSIONS)


# No command (5)


@pytest.mark.contract(5)
@pytest.mark.parametrize("variables", [{}, {"CNI_COMMAND": ""}], ids=["absent", "empty"])
def test_without_a_command_one_about_line_tells_what_this_is(node: Node, variables: dict[str, str]) -> None:
    outcome = node.plugin.run(node.plugin.environment(**variables)).silent()
    (line,) = outcome.stderr.splitlines()
    assert "ovs" in line.lower()
    for version in VERSIONS:
        assert version in line


# The host's own namespace (6)


@pytest.mark.one_target
@pytest.mark.contract(6)
@pytest.mark.parametrize("command", ["ADD", "CHECK"])
@pytest.mark.parametrize("named", [True, False], ids=["by-name", "by-proc"])
def test_the_plugins_own_namespace_is_refused(node: Node, command: str, named: bool) -> None:
    pod = node.attachment(ifname="cnix0", ipam=node.host_local(), prevResult={"cniVersion": "1.1.0"})
    pod.netns = node.host.path if named else "/proc/self/ns/net"
    pod.run(command).error(8)
    node.assert_nothing_left()


@pytest.mark.contract(6, 18)
def test_del_goes_on_when_the_namespace_is_the_plugins_own(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = node.attached(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    pod.delete(CNI_NETNS=node.host.path).silent()
    assert ipam.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


@pytest.mark.contract(6)
@pytest.mark.parametrize("value", ["1", "true"])
def test_the_plugins_own_namespace_is_used_when_it_is_explicitly_allowed(node: Node, value: str) -> None:
    pod = node.attachment(ifname="cnix0")
    pod.netns = node.host.path
    pod.add(CNI_NETNS_OVERRIDE=value).ok()
    assert node.host.link("cnix0").up
    pod.delete(CNI_NETNS_OVERRIDE=value).silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(6)
@pytest.mark.parametrize("value", ["0", "false", ""])
def test_an_override_that_says_no_allows_nothing(node: Node, value: str) -> None:
    pod = node.attachment(ifname="cnix0")
    pod.netns = node.host.path
    pod.add(CNI_NETNS_OVERRIDE=value).error(8)
    node.assert_nothing_left()


# Keys (7)


def _rename(config: Json, **names: str) -> Json:
    return {names.get(key, key): value for key, value in config.items()}


@pytest.mark.contract(7)
def test_keys_are_found_whatever_their_case(node: Node) -> None:
    mac = "02:11:22:33:44:55"
    pod = node.attachment(vlan=7, RuntimeConfig={"Mac": mac})
    pod.config = _rename(pod.config, bridge="Bridge", vlan="VLAN", socket_file="Socket_File")
    pod.add().ok()
    assert pod.sandbox.link("net1").mac == mac
    assert node.port(pod)["tag"] == 7
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(7)
def test_the_exact_key_wins_over_one_of_another_case(node: Node) -> None:
    pod = node.attachment(Bridge="nosuchbridge", VLAN=9, vlan=8)
    pod.add().ok()
    assert node.port(pod)["tag"] == 8
    pod.delete().silent()


@pytest.mark.contract(7)
def test_keys_that_belong_to_the_runtime_are_tolerated_without_a_warning(node: Node) -> None:
    pod = node.attachment(
        args={"cni": {}, "labels": [{"key": "a", "value": "b"}]},
        runtimeConfig={"portMappings": [], "bandwidth": {}},
        capabilities={"mac": True},
    )
    pod.config.update({"cni.dev/valid-attachments": [], "cni.dev/attachments": []})
    added = pod.add().ok()
    assert "WARNING" not in added.stderr.upper()
    pod.delete().silent()
    node.assert_nothing_left()


# Children, deadlines, signals (8)


def _hanging(node: Node, *, command: str = "ADD", shell: str = "sleep 300") -> Attachment:
    ipam = node.scripted_ipam(**{command: shell})
    return node.attachment(ipam=ipam.config, timeout=20, cni_path=str(ipam.folder))


@pytest.mark.contract(8)
@pytest.mark.parametrize("detach", ["sleep 300 &", "setsid sleep 300 &"], ids=["same-group", "own-session"])
def test_a_process_left_by_the_ipam_plugin_does_not_hold_the_runtimes_pipes(node: Node, detach: str) -> None:
    ipam = node.scripted_ipam()
    ipam.act(ADD=f"{detach}\n{ipam.answer('10.77.0.2/24')}")
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, timeout=10, cni_path=str(ipam.folder))
    outcome = pod.start("ADD").wait(timeout=15)
    assert outcome.exit_code == 0, outcome
    assert "10.77.0.2/24" in pod.sandbox.address_texts("net1")
    assert outcome.seconds < 5
    pod.delete().silent()
    assert node.ports() == []


@pytest.mark.contract(8)
def test_an_ipam_plugin_that_hangs_ends_with_the_timeout_and_leaves_nothing(node: Node) -> None:
    pod = _hanging(node)
    pod.config["timeout"] = 2
    outcome = pod.start("ADD").wait(timeout=10)
    outcome.error(11)
    assert 1.5 < outcome.seconds < 5
    node.assert_nothing_left()


@pytest.mark.contract(8, 14)
def test_sigterm_undoes_everything_and_ends_the_plugin(node: Node) -> None:
    pod = _hanging(node)
    running = pod.start("ADD")
    ipam = node.folder / "scripts/scripted.records/ADD.pid"
    wait_for("the IPAM plugin runs", lambda: ipam.exists() and ipam.read_text())
    wait_for("the port exists", node.ports)
    running.signal(signal.SIGTERM)
    running.wait(timeout=10).error()
    calls = (node.folder / "scripts/scripted.records/calls").read_text().split()
    assert calls == ["ADD", "DEL"]
    node.assert_nothing_left()


@pytest.mark.contract(8, 18)
def test_nobody_holds_the_pipes_of_a_killed_plugin_and_del_removes_the_rest(node: Node) -> None:
    """SIGKILL goes to the process that the runtime started and to no other, as Go's exec.CommandContext does."""
    pod = _hanging(node)
    running = pod.start("ADD")
    record = Path(node.folder / "scripts/scripted.records/ADD.pid")
    wait_for("the IPAM plugin runs", lambda: record.exists() and record.read_text())
    wait_for("the port exists", node.ports)
    running.signal(signal.SIGKILL)
    outcome = running.wait(timeout=5)
    assert outcome.exit_code == -signal.SIGKILL
    for pid in node.strangers():  # an IPAM plugin that still hangs, without our pipes
        os.kill(pid, signal.SIGKILL)
        ends(pid, timeout=5)
    pod.delete().silent()
    node.assert_nothing_left()
