"""What the documentation tells to type is typed here."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
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

COMMAND = REPOSITORY / "docs/command.md"
PROGRAM = REPOSITORY / "dist/cni-ovs"
EXIT_CODE = re.compile("# exits with ([0-9]+)")

# Commands that other tests run (or, as build/test, that run this one).
ELSEWHERE = {
    *("build/demo", "build/test", "build/bench", "build/fuzz", "build/manual", "build/cni-ovs-install", "build/"),
    *("build/binary", "build/binary ovs", "build/binary cni-ovs"),
}


def blocks() -> list[str]:
    return [block for page in PAGES for block in BLOCK.findall(page.read_text())]


def of_the_command() -> tuple[list[str], list[str]]:
    """The blocks for the operator's command, in their order: those of its page, and those of the README."""
    readme = BLOCK.findall((REPOSITORY / "README.md").read_text())
    return BLOCK.findall(COMMAND.read_text()), [block for block in readme if block.startswith("cni-ovs ")]


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
    page, readme = of_the_command()
    unknown = [
        block
        for block in blocks()
        if "cnitool" not in block and block.strip() not in ELSEWHERE and block not in page + readme
    ]
    assert unknown == []


@pytest.fixture
def node_of_an_operator(private_openvswitch: PrivateOpenVSwitch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A node with the plugin, a bridge br0, and the namespaces web and db; what types a block of commands there."""
    mounts = PrivateMounts("/opt", "/etc", "/var/lib", "/run", "/usr/local")
    environment = {"PATH": PATH, "OVS_RUNDIR": str(private_openvswitch.folder), "TMPDIR": str(tmp_path)}

    def type_block(block: str) -> None:
        script = f"set -ex\ncd {REPOSITORY}\n{block}"
        command = private_openvswitch.namespace.command(*mounts.command("sh", "-c", script))
        done = run(command, env=environment, check=False, timeout=60)
        expected = EXIT_CODE.search(block)
        assert done.returncode == (int(expected[1]) if expected else 0), f"{block}\n{done.stdout}{done.stderr}"

    try:
        private_openvswitch.add_bridge("br0")
        type_block(
            "mkdir -p /run/openvswitch /run/netns; mount -t tmpfs tmpfs /run/netns\n"
            f"ln -s {private_openvswitch.socket} /run/openvswitch/db.sock\n"
            "build/cni-ovs-install /opt/cni/bin\n"
            "ip netns add web; ip -n web link set lo up; ip netns add db; ip -n db link set lo up\n"
        )
        yield type_block
    finally:
        mounts.close()
    assert list(tmp_path.glob("_MEI*")) == []


@pytest.mark.timeout(300)  # dozens of commands, each in the one file that unpacks itself
def test_what_the_page_of_the_command_tells_to_type_does_what_it_says(
    node_of_an_operator: Callable[[str], None],
) -> None:
    found, _ = of_the_command()
    assert found
    for block in found:
        node_of_an_operator(block)


def test_the_examples_of_the_command_in_the_readme_do_what_they_say(
    node_of_an_operator: Callable[[str], None],
) -> None:
    _, [block] = of_the_command()
    node_of_an_operator(f"install {PROGRAM} /usr/local/bin/cni-ovs\n{block}")


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
