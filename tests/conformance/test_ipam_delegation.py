"""CNI contract, section "IPAM delegation" (points 25 and 26)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.ipam import ScriptedIpam, cni_path
from tests.support.node import Node
from tests.support.plugin import VERSIONS, Attachment

SHELLS_OWN = {"PWD", "OLDPWD", "SHLVL", "_"}  # what a shell adds to its environment


def _scripted(node: Node, ipam: ScriptedIpam) -> Attachment:
    return node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))


@pytest.mark.one_target
@pytest.mark.contract(25)
@pytest.mark.parametrize("version", VERSIONS)
def test_host_local_gives_and_takes_back_an_address_in_every_version(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=node.host_local())
    pod.add().ok()
    assert node.addresses_given_out() == ["10.10.0.2"]
    assert pod.sandbox.address_texts("net1") == {"10.10.0.2/16"}
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(25)
def test_the_first_regular_file_in_cni_path_is_taken(node: Node) -> None:
    first, second, third = node.folder / "first", node.folder / "second", node.folder / "third"
    (first / "scripted").mkdir(parents=True)  # a folder of that name is no plugin
    ScriptedIpam(second, ADD=ScriptedIpam.answer("10.77.0.2/24"))
    ScriptedIpam(third, ADD=ScriptedIpam.answer("10.77.0.3/24"))
    path = f"/nonexistent:{first}:{second}:{third}"
    pod = node.attached(cniVersion="1.0.0", ipam={"type": "scripted"}, cni_path=path)
    assert pod.addresses == ["10.77.0.2"]
    pod.delete().silent()


@pytest.mark.one_target
@pytest.mark.contract(25, 27)
@pytest.mark.parametrize("kind", ["../scripted", "/bin/scripted", "a/b"])
def test_an_ipam_type_with_a_slash_is_a_configuration_error(node: Node, kind: str) -> None:
    assert kind in node.attachment(ipam={"type": kind}).add().error(7)["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(25, 27)
def test_an_ipam_plugin_that_is_not_in_cni_path_is_named_with_the_path(node: Node) -> None:
    folder = node.folder / "empty"
    folder.mkdir()
    error = node.attachment(ipam={"type": "nosuchipam"}, cni_path=str(folder)).add().error(104)
    assert "nosuchipam" in error["msg"]
    assert str(folder) in error["msg"] + error.get("details", "")
    node.assert_nothing_left()


@pytest.mark.contract(25)
def test_ipam_gets_our_environment_and_nothing_else(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = _scripted(node, ipam)
    pod.args = "IgnoreUnknown=1;K8S_POD_NAME=web-0"
    for command in ("ADD", "CHECK", "DEL"):
        run = pod.add if command == "ADD" else pod.check if command == "CHECK" else pod.delete
        run(SOMETHING="else", LD_LIBRARY_PATH="/some/where").ok()
        expected = pod.environment(command, SOMETHING="else", LD_LIBRARY_PATH="/some/where")
        seen = {key: value for key, value in ipam.environment(command).items() if key not in SHELLS_OWN}
        assert seen == expected


@pytest.mark.contract(25)
def test_a_variable_that_we_did_not_get_is_not_given_to_ipam(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = _scripted(node, ipam)
    pod.add().ok()
    assert "LD_LIBRARY_PATH" not in ipam.environment("ADD")
    assert set(ipam.environment("ADD")) - SHELLS_OWN == set(pod.environment("ADD"))


@pytest.mark.contract(25, 14)
def test_only_cni_command_differs_when_ipam_is_told_to_undo(node: Node) -> None:
    ipam = node.scripted_ipam(ADD="exit 1")
    pod = _scripted(node, ipam)
    pod.add().error(104)
    assert {**ipam.environment("DEL"), "CNI_COMMAND": "ADD"}.items() >= pod.environment("ADD").items()
    assert json.loads(ipam.stdin("DEL")) == json.loads(ipam.stdin("ADD"))


@pytest.mark.contract(25)
def test_ipam_gets_the_whole_configuration_with_keys_that_we_do_not_know(node: Node) -> None:
    ipam = node.scripted_ipam()
    pod = _scripted(node, ipam)
    pod.config["ipam"] = {**ipam.config, "deep": {"a": [1, 2.5, None, True, "ü€\U0001f600"]}}
    pod.config["runtimeConfig"] = {"ips": ["10.1.0.9/24"]}
    pod.config["somebody.else/key"] = {"B": 1, "b": 2}
    pod.add().ok()
    assert json.loads(ipam.stdin("ADD")) == pod.config
    pod.delete().silent()
    assert json.loads(ipam.stdin("DEL")) == {**pod.config, "prevResult": pod.result}


@pytest.mark.contract(25)
def test_what_ipam_writes_on_stderr_appears_on_ours(node: Node) -> None:
    ipam = node.scripted_ipam()
    ipam.act(ADD=f"echo a word from ipam >&2\n{ipam.answer('10.77.0.2/24')}")
    assert "a word from ipam" in _scripted(node, ipam).add().ok().stderr


@pytest.mark.contract(25, 27)
def test_ipams_error_becomes_ours_with_code_text_and_details(node: Node) -> None:
    ipam = node.scripted_ipam()
    ipam.act(ADD=ipam.refuse(142, "the pool is empty", "ask for a larger one"))
    error = _scripted(node, ipam).add().error(142)
    assert "the pool is empty" in error["msg"]
    assert "ask for a larger one" in error["details"]
    assert error["cniVersion"] == "1.0.0"
    node.assert_nothing_left()


@pytest.mark.contract(25)
def test_host_locals_refusal_of_unknown_cni_args_is_passed_on(node: Node) -> None:
    pod = node.attachment(ipam=node.host_local(), cni_args="UNKNOWN=1")
    assert "UNKNOWN" in json.dumps(pod.add().error())
    node.assert_nothing_left()
    pod.args = "UNKNOWN=1;IgnoreUnknown=1"
    pod.add().ok()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(25, 14)
def test_an_exhausted_range_is_reported_and_leaves_nothing(node: Node) -> None:
    ipam = node.host_local("10.20.0.0/24", rangeStart="10.20.0.5", rangeEnd="10.20.0.5")
    first = node.attached(ipam=ipam)
    second = node.attachment(ipam=ipam)
    assert "10.20.0" in json.dumps(second.add().error())
    node.assert_nothing_left(keep=[first])
    first.delete().silent()
    second.add().ok()
    second.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(25)
def test_the_addresses_and_capabilities_a_runtime_asks_for_reach_ipam(node: Node) -> None:
    """`runtimeConfig.ips` is handed to host-local, which gives out exactly that address."""
    pod = node.attachment(ipam=node.host_local(), runtimeConfig={"ips": ["10.10.7.7/16"]}, capabilities={"ips": True})
    pod.add().ok()
    assert pod.sandbox.address_texts("net1") == {"10.10.7.7/16"}
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(25)
def test_host_local_of_debian_refuses_1_1_0_and_that_is_passed_on(node: Node) -> None:
    if Path(cni_path("1.1.0")) == Path("/usr/lib/cni"):
        pytest.skip("there is only one set of plugins")
    node.attachment(ipam=node.host_local(), cni_path="/usr/lib/cni").add().error(1)
    node.assert_nothing_left()


@pytest.mark.contract(26)
def test_a_plugin_named_dhcp_finds_the_interface_up_and_forwarding(node: Node) -> None:
    """It pings another container of the bridge before it answers: broadcast and unicast must pass already."""
    if node.plugin.target.name == "confined":
        pytest.skip("ping needs CAP_NET_RAW")
    other = node.attached(cniVersion="1.0.0", ipam=node.host_local())
    inside = 'nsenter --net="$CNI_NETNS"'
    probe = (
        f'{inside} ip link show "$CNI_IFNAME" up | grep -q LOWER_UP || exit 3\n'
        f'{inside} ip address add 10.10.9.9/16 dev "$CNI_IFNAME"\n'
        f"{inside} ping -c 1 -W 1 {other.addresses[0]} >&2 || exit 4\n"
        f'{inside} ip address delete 10.10.9.9/16 dev "$CNI_IFNAME"\n' + ScriptedIpam.answer("10.10.9.8/16")
    )
    ipam = ScriptedIpam(node.folder / "scripts", name="dhcp", ADD=probe)
    pod = node.attached(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    assert other.sandbox.pings("10.10.9.8")
    pod.delete().silent()
    other.delete().silent()
    node.assert_nothing_left()
