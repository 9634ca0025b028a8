"""What a command costs, counted: instructions, files opened, system calls, requests to ovsdb-server.

Seconds say nothing on a busy machine; these are the same in every run. A number here may be lowered at any time.
Whoever raises one should know what it buys: build/bench tells what it costs. (test_imports.py has the modules.)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import PATH, REPOSITORY, TARGETS, Attachment
from tests.support.processes import run

PROGRAM = REPOSITORY / "dist/ovs"
LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\w+)")
MESSAGES = {"sendto", "sendmsg", "send"}


@dataclass(frozen=True)
class Call:
    """One system call, as strace shows it."""

    name: str
    arguments: str
    returned: str

    @property
    def fd(self) -> str:
        """The first argument, where that is a file descriptor."""
        return self.arguments.partition(",")[0]


class Trace:
    """The system calls of one command, PyInstaller's bootloader included."""

    def __init__(self, text: str) -> None:
        """Reads what `strace -f` wrote."""
        self.calls = [Call(*match.groups()) for match in map(LINE.match, text.splitlines()) if match]

    def opened(self, pod: Attachment) -> set[str]:
        """The files that were opened; those below /proc without the number of a process and the name of a port."""
        paths = [call.arguments.split('"')[1] for call in self.calls if call.name == "openat" and call.returned != "-1"]
        return {re.sub(r"/cni[0-9a-f]{12}/", "/PORT/", path) for path in paths if path != pod.netns}

    def requests(self) -> int:
        """How many requests were sent to ovsdb-server."""
        sockets = [call.fd for call in self.calls if call.name == "connect" and "db.sock" in call.arguments]
        assert len(sockets) == 1, "one connection is enough"
        return sum(call.arguments.count('\\"method\\"') for call in self.calls if self._is_sent_to(call, sockets[0]))

    def answers(self) -> list[int]:
        """The sizes of what ovsdb-server answered."""
        [socket] = [call.fd for call in self.calls if call.name == "connect" and "db.sock" in call.arguments]
        return [int(call.returned) for call in self.calls if call.name == "recvfrom" and call.fd == socket]

    @staticmethod
    def _is_sent_to(call: Call, socket: str) -> bool:
        return call.name in MESSAGES and call.fd == socket

    def sockets(self, family: str) -> int:
        """How many sockets of a family were made."""
        return sum(call.name == "socket" and call.arguments.startswith(family) for call in self.calls)


@pytest.fixture
def node(openvswitch: PrivateOpenVSwitch, tmp_path: Path) -> Iterator[Node]:
    """A host for the frozen plugin, which is the one to be fast."""
    made = Node(openvswitch, TARGETS["frozen"], tmp_path)
    try:
        yield made
    finally:
        made.clean()


def trace(node: Node, command: str, attachment: Attachment) -> Trace:
    file = node.folder / "trace"
    wrapper = ("strace", "-f", "-s", "4096", "-o", str(file))
    node.plugin.run(attachment.environment(command), attachment.stdin(command), wrapper=wrapper).ok()
    return Trace(file.read_text(errors="replace"))


START = {"/proc/self/exe", "/etc/localtime"}  # the interpreter's module `time` reads the latter


def test_a_command_opens_only_what_it_needs(node: Node) -> None:
    pod = node.attachment()
    assert trace(node, "VERSION", pod).opened(pod) <= START
    here = {"/proc/self/ns/net", "/proc/sys/net/ipv6/conf/PORT/accept_ra"}
    assert trace(node, "ADD", pod).opened(pod) <= START | here
    assert trace(node, "DEL", pod).opened(pod) <= START


def test_a_command_makes_no_more_system_calls_than_it_did(node: Node) -> None:
    pod = node.attachment()
    counts = {command: len(trace(node, command, pod).calls) for command in ("VERSION", "ADD", "DEL")}
    # 200, 263 and 231 with Debian 12's Python and Linux 6.18. Each 8 KiB of what every command loads cost one to read.
    assert counts["VERSION"] <= 205, counts
    assert counts["ADD"] <= 275, counts
    assert counts["DEL"] <= 237, counts


def test_add_asks_ovsdb_server_three_things_over_one_connection(node: Node) -> None:
    # What there is; the rows; the OpenFlow number. The last two are sent together.
    pod = node.attachment()
    add = trace(node, "ADD", pod)
    assert add.requests() == 3
    assert add.sockets("AF_NETLINK") <= 3  # the host's, the sandbox's, and, before Linux 6.8, one to watch the link
    assert add.sockets("AF_INET") == 0


def test_del_asks_ovsdb_server_two_things_over_one_connection(node: Node) -> None:
    pod = node.attached()
    delete = trace(node, "DEL", pod)
    assert delete.requests() == 2
    assert delete.sockets("AF_NETLINK") == 1


def test_nothing_grows_with_the_number_of_ports(node: Node) -> None:
    pod = node.attachment()
    few = {command: trace(node, command, pod) for command in ("ADD", "DEL")}
    others = [f"other{number}" for number in range(100)]
    node.host.add_pairs(others)
    add = [word for name in others for word in ("--", "add-port", node.bridge, name)]
    node.openvswitch.vsctl(*add[1:])
    many = {command: trace(node, command, pod) for command in ("ADD", "DEL")}
    for command, trace_ in many.items():
        assert trace_.requests() == few[command].requests()
        # Numbers may have a digit more.
        assert sum(trace_.answers()) <= sum(few[command].answers()) + 20
        assert len(trace_.calls) <= len(few[command].calls) + 20  # a wait may be interrupted once more


def instructions(*command: str) -> int:
    """How many instructions a program executes, as valgrind counts them; after it has executed itself, if it does."""
    counter = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]
    done = run([*counter, *command], env={"PATH": PATH, "CNI_COMMAND": "VERSION"}, timeout=60)
    return int(re.findall(r"refs: +([\d,]+)", done.stderr)[-1].replace(",", ""))


def test_a_start_takes_little_longer_than_that_of_the_interpreter_alone() -> None:
    alone = instructions(sys.executable, "-I", "-S", "-c", "import posix; posix._exit(0)")
    ours = instructions(str(PROGRAM))
    # 3.8 million with Debian 12's Python. Importing `re`, for example, takes 20 million more.
    assert ours - alone <= 3.9e6, f"{ours} instructions, {alone} of them are the interpreter's"


def test_the_frozen_plugin_stays_small_and_needs_no_library() -> None:
    assert PROGRAM.stat().st_size < 6_700_000
    assert "not a dynamic executable" in run(["ldd", PROGRAM], check=False).stderr
