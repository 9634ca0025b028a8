"""What the Tab key offers: in the words of click's protocol, and in real shells."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.plugin import PATH, REPOSITORY
from tests.support.processes import run

pytestmark = pytest.mark.one_target

SCRIPT = {
    shell: [str(REPOSITORY / ".venv/bin/python"), "-m", "cni_ovs.cli", "completion", shell]
    for shell in ("bash", "zsh", "fish")
}

# A command with every type of name that options.py has, called as the real one.
PROGRAM = f"""\
#!{sys.executable}
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import click
from cni_ovs.cli import options, process

@click.command()
@click.argument("target", type=options.TargetName())
@click.argument("ifname", type=options.InterfaceName())
@click.argument("bridge", type=options.BridgeName())
@click.option("--network", type=options.NetworkName())
@click.option("--from", type=options.Configuration())
@options.conf_dirs
@options.db
def command(**_):
    pass

sys.exit(process.run(command))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The folder of a command of that name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "cni-ovs"
    file.write_text(PROGRAM)
    file.chmod(0o755)
    return folder


def offered(program: Path, remote: str, *words: str) -> list[str]:
    """What bash is told to offer for the last of these words."""
    environment = {
        "PATH": PATH,
        "CNI_OVS_DB": remote,
        "_CNI_OVS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["cni-ovs", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = run([program / "cni-ovs"], env=environment, check=False)
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


def test_the_names_of_bridges_come_from_the_database(program: Path, node: Node) -> None:
    other = node.add_bridge()
    remote = node.openvswitch.remote
    assert {node.bridge, other} <= set(offered(program, remote, "web", "eth1", ""))
    assert offered(program, remote, "web", "eth1", other[:-1]) == [other]
    assert offered(program, remote, "web", "eth1", "nothing-like-it") == []


def test_db_on_the_same_command_line_says_which_database(program: Path, node: Node) -> None:
    words = ("web", "eth1", node.bridge[:-1])
    assert offered(program, "unix:/nonexistent", "--db", node.openvswitch.socket, *words) == [node.bridge]
    assert offered(program, node.openvswitch.remote, "--db", "nonsense", *words) == []


def test_targets_are_what_has_a_name(program: Path, node: Node) -> None:
    sandbox = node.sandbox()
    assert offered(program, "unix:/nonexistent", sandbox.name[:-1]) == [sandbox.name]


def test_interfaces_are_those_of_the_target_if_it_has_any(program: Path, node: Node) -> None:
    one, other = node.attached(ifname="net7"), node.attached(ifname="net8")
    remote = node.openvswitch.remote
    assert offered(program, remote, one.sandbox.name, "net") == ["net7"]
    assert offered(program, remote, other.container_id, "net") == ["net8"]
    assert {"net7", "net8"} <= set(offered(program, remote, "elsewhere", "net"))


def test_networks_are_those_that_something_is_attached_to(program: Path, node: Node) -> None:
    node.attached()
    assert offered(program, node.openvswitch.remote, "--network", node.network[:-1]) == [node.network]


@pytest.mark.parametrize(
    "name", ["br $(reboot)", "br;reboot", "br`x`", "br\nplain,x", "-br", "br\x1b[2J", "br*", "br'"]
)
def test_what_would_mean_something_to_a_shell_is_not_offered(program: Path, node: Node, name: str) -> None:
    pod, _ = node.attached(), node.attached()
    ids = {**node.port(pod)["external_ids"], "contNetwork": name}
    where = [["name", "==", node.port(pod)["name"]]]
    row = {"external_ids": ["map", [list(pair) for pair in ids.items()]]}
    node.openvswitch.transact({"op": "update", "table": "Port", "where": where, "row": row})
    assert offered(program, node.openvswitch.remote, "--network", "") == [node.network]


def test_configurations_are_networks_of_this_node_or_files(program: Path, node: Node, tmp_path: Path) -> None:
    (tmp_path / "10-net.conf").write_text(json.dumps(node.config(name="storage")))
    words = ("--conf-dir", str(tmp_path), "--from")
    for begun in ("", "sto"):
        assert offered(program, node.openvswitch.remote, *words, begun) == ["storage"]
    assert offered(program, node.openvswitch.remote, *words, "./10") == ["file,./10"]


@pytest.mark.parametrize("state", ["stopped", "gone"])
def test_a_database_that_does_not_answer_is_no_candidate_no_message_and_no_wait(
    program: Path, private_node: Node, state: str
) -> None:
    server = private_node.openvswitch.ovsdb_server
    if state == "stopped":
        server.freeze()
    else:
        server.kill()
    begin = time.monotonic()
    assert offered(program, private_node.openvswitch.remote, "web", "eth1", "") == []
    assert time.monotonic() - begin < 2  # a second and the start of two interpreters
    if state == "gone":
        private_node.openvswitch.start_ovsdb_server()


# Real shells


class Terminal:
    """A shell that believes to be in a terminal."""

    def __init__(self, *command: str, path: str, remote: str) -> None:
        self._master, slave = pty.openpty()
        environment = {"PATH": path, "CNI_OVS_DB": remote, "TERM": "dumb", "HOME": "/nonexistent", "PS1": "> "}
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def type(self, text: str, until: str) -> str:
        """Types, and reads until this has come; AssertionError if it does not."""
        os.write(self._master, text.encode())
        read = ""
        end = time.monotonic() + 10
        while until not in read:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{until!r} has not come: {read!r}"
            read += os.read(self._master, 4096).decode(errors="replace")
        return read

    def close(self) -> None:
        """Ends the shell."""
        self._process.kill()
        self._process.wait(5)
        os.close(self._master)


SHELLS = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), ""),
    "zsh": (("zsh", "-f", "-i"), "autoload -U compinit; compinit -u -D; "),
    "fish": (("fish", "--no-config", "-i"), ""),
}


@contextlib.contextmanager
def shell(name: str, program: str, remote: str, script: Path) -> Iterator[Terminal]:
    """A shell in which what `cni-ovs completion` prints has been read."""
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name}")
    script.write_text(run(SCRIPT[name], env={"PATH": PATH, "PYTHONPATH": str(REPOSITORY)}).stdout)
    command, preparation = SHELLS[name]
    terminal = Terminal(*command, path=f"{program}:{PATH}", remote=remote)
    try:
        terminal.type(f"{preparation}source {script}; echo rea''dy\n", until="ready\r\n")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_the_tab_key_completes_a_bridge(name: str, program: Path, node: Node, tmp_path: Path) -> None:
    with shell(name, str(program), node.openvswitch.remote, tmp_path / "script") as terminal:
        terminal.type(f"echo cni-ovs; cni-ovs web eth1 {node.bridge[:-2]}\t", until=f"eth1 {node.bridge}")


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_the_tab_key_completes_commands_of_the_frozen_program(name: str, node: Node, tmp_path: Path) -> None:
    with shell(name, str(REPOSITORY / "dist"), node.openvswitch.remote, tmp_path / "script") as terminal:
        terminal.type("cni-ovs comple\t", until="cni-ovs completion ")
        terminal.type("ba\t", until="bash")


@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize("command", ["validate", "migrate", "explain", "attach web eth1 --from"])
def test_the_tab_key_completes_a_file(name: str, command: str, node: Node, tmp_path: Path) -> None:
    (tmp_path / "10-network.conf").touch()
    with shell(name, str(REPOSITORY / "dist"), node.openvswitch.remote, tmp_path / "script") as terminal:
        terminal.type(f"cni-ovs {command} {tmp_path}/10-n\t", until="10-network.conf ")


def test_every_shell_gets_a_script_that_it_can_read(tmp_path: Path) -> None:
    for name, command in SCRIPT.items():
        text = run(command, env={"PATH": PATH, "PYTHONPATH": str(REPOSITORY)}).stdout
        assert "_CNI_OVS_COMPLETE" in text
        if shutil.which(name):
            script = tmp_path / name
            script.write_text(text)
            run([name, "-n", script])


def test_a_shell_that_is_not_known_is_a_mistake_in_the_command_line(node: Node) -> None:
    assert "'tcsh' is not one of" in Cli(node.host, node.openvswitch.remote).fails("completion", "tcsh", code=2)
