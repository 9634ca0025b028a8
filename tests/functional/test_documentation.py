"""What the documentation tells to type is typed here."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.machine import PrivateMounts
from tests.support import ipam
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import PATH, REPOSITORY
from tests.support.processes import run

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "conf/README.md", *(REPOSITORY / "docs").glob("*.md")])
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:ovs-vsctl |ethtool |build/)[^`]*)`")

# Commands that other tests run (or, as build/test, that run this one).
ELSEWHERE = {"build/demo", "build/test", "build/bench", "build/fuzz", "build/binary", "build/cni-ovs-install", "build/"}


def blocks() -> list[str]:
    return [block for page in PAGES for block in BLOCK.findall(page.read_text())]


def inline() -> list[str]:
    found = [command for page in PAGES for command in INLINE.findall(page.read_text())]
    return sorted(
        {command for command in found if command not in ELSEWHERE and "…" not in command and is_typed(command)}
    )


def is_typed(text: str) -> bool:
    """Whether this is a command, and does not just name a file or folder that is there."""
    path = REPOSITORY / text
    return not path.exists() or (path.is_file() and os.access(path, os.X_OK))


@pytest.fixture
def machine(private_openvswitch: PrivateOpenVSwitch) -> Iterator[PrivateMounts]:
    """A machine whose folders may be written to, and whose Open vSwitch is where it is by default."""
    mounts = PrivateMounts("/opt", "/etc", "/var/lib", "/run")
    try:
        script = 'mkdir -p /run/openvswitch /run/netns && ln -s "$1/db.sock" /run/openvswitch/db.sock'
        run(mounts.command("sh", "-c", script, "sh", private_openvswitch.folder))
        yield mounts
    finally:
        mounts.close()


def type_in(machine: PrivateMounts, openvswitch: PrivateOpenVSwitch, text: str, *words: str) -> str:
    script = f"set -ex\ncd {REPOSITORY}\n{text}"
    command = openvswitch.namespace.command(*words, *machine.command("sh", "-c", script))
    environment = {"PATH": PATH, "OVS_RUNDIR": str(openvswitch.folder)}
    return run(command, env=environment, timeout=60).stdout


@pytest.mark.skipif(
    not (Path(ipam.TOOLS) / "cnitool").is_file(), reason="no cnitool: build/setup needs Go to install it"
)
def test_the_thirty_seconds_with_cnitool_attach_and_detach_a_container(
    machine: PrivateMounts, private_openvswitch: PrivateOpenVSwitch
) -> None:
    [block] = [block for block in blocks() if "cnitool" in block]
    bridge = next(line for line in block.splitlines() if "add-br" in line)
    [userspace] = [command for command in inline() if "set bridge br-cni datapath_type=netdev" in command]
    name = f"cniovs-{secrets.token_hex(4)}"
    text = block.replace(bridge, f"{bridge}\n{userspace}").replace(" demo", f" {name}").replace("/demo", f"/{name}")
    output = type_in(machine, private_openvswitch, text)
    assert "10.101.0." in output
    assert "fd00:101::" in output
    assert private_openvswitch.vsctl("--no-wait", "list-br") == ""


def test_every_block_of_commands_is_run_by_a_test() -> None:
    unknown = [block for block in blocks() if "cnitool" not in block and block.strip() not in ELSEWHERE]
    assert unknown == []


def test_the_demonstration_attaches_connects_and_leaves_nothing() -> None:
    before = run(["ip", "netns"]).stdout.split()
    output = run([REPOSITORY / "build/demo", "1"], timeout=100).stdout
    rates = [int(rate) for rate in re.findall(r": (\d+) Mbit/s", output)]
    assert len(rates) == 2
    assert min(rates) > 0
    assert output.rstrip().endswith("nothing is left")
    assert not [name for name in run(["ip", "netns"]).stdout.split() if "cni-ovs-demo" in name and name not in before]
    assert not list(Path("/tmp").glob("cni-ovs-demo.*"))


@pytest.mark.parametrize("command", inline())
def test_a_command_within_a_sentence_does_what_it_should(
    machine: PrivateMounts, private_openvswitch: PrivateOpenVSwitch, command: str
) -> None:
    if "add-br" not in command:
        private_openvswitch.add_bridge("br-cni")
    private_openvswitch.namespace.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    type_in(machine, private_openvswitch, command.replace("BRIDGE", "br-new"))
