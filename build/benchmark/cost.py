"""What one command costs besides time, measured in runs of their own because it disturbs them: memory, system calls."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from build.benchmark.process import Outcome, Process

BUSYBOX = "/usr/bin/busybox"
STRACE = "/usr/bin/strace"

_CALL = re.compile(r"^(?P<start>[0-9.]+) (?P<name>\w+)\((?P<rest>.*)<(?P<seconds>[0-9.]+)>$")
_SOCKET = re.compile(r"\d+<socket:\[(\d+)\]>")
_SENT = {"write", "writev", "sendto", "sendmsg"}
_RECEIVED = {"read", "readv", "recvfrom", "recvmsg"}


class Memory:
    """Runs a command below `busybox time` to learn its peak memory.

    The kernel counts the memory of whoever started a process into its peak, so this Python must not be the parent.
    """

    def __init__(self, folder: Path) -> None:
        """Finds out the unit: busybox 1.35, as GNU time 1.7, multiplies kilobytes by the kilobytes of a page."""
        self._report = folder / "memory"
        code = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        outcome, reported = self._run([sys.executable, "-I", "-S", "-c", code], {}, b"")
        self._unit = max(1, round(reported / int(outcome.stdout)))

    def run(self, command: list[str], environment: Mapping[str, str], stdin: bytes) -> tuple[Outcome, int]:
        """Runs it; the number is the peak resident memory in bytes of its largest process, its children included."""
        outcome, reported = self._run(command, environment, stdin)
        return outcome, reported * 1024 // self._unit

    def _run(self, command: list[str], environment: Mapping[str, str], stdin: bytes) -> tuple[Outcome, int]:
        words = [BUSYBOX, "time", "-f", "%M", "-o", str(self._report), *command]
        outcome = Process(words, environment, stdin).wait()
        return outcome, int(self._report.read_text().split()[-1])


@dataclass(frozen=True)
class Calls:
    """What strace saw of a command and all its children."""

    system_calls: int
    round_trips: int  # how often something was sent to ovsdb-server and then something was received
    connections: int  # to ovsdb-server
    received: int  # bytes from ovsdb-server


def trace(
    command: list[str], environment: Mapping[str, str], stdin: bytes, server: str, folder: Path
) -> tuple[Outcome, Calls]:
    """Runs a command below strace; `server` is the path of ovsdb-server's socket."""
    # One file per thread: no call is cut in two by another thread's.
    options = ["-ff", "-qq", "-ttt", "-T", "-y", "-s", "0", "-o", f"{folder}/trace"]
    outcome = Process([STRACE, *options, *command], environment, stdin).wait()
    lines = []
    for file in folder.glob("trace.*"):
        lines += file.read_text(errors="replace").splitlines()
        file.unlink()
    return outcome, count(lines, server)


def count(lines: Sequence[str], server: str) -> Calls:
    """Counts what is in strace's lines, which may be in any order."""
    calls = [match for line in lines if (match := _CALL.match(line))]
    ours = {
        found[1]
        for call in calls
        if call["name"] == "connect" and f'"{server}"' in call["rest"] and (found := _SOCKET.match(call["rest"]))
    }
    # A send counts from its beginning and a receipt from its end: the answer may be there before the send returns.
    events: dict[str, list[tuple[float, bool]]] = {number: [] for number in ours}
    received = 0
    for call in calls:
        found = _SOCKET.match(call["rest"])
        if found is None or found[1] not in ours:
            continue
        size = _returned(call["rest"])
        if call["name"] in _SENT and size > 0:
            events[found[1]].append((float(call["start"]), True))
        elif call["name"] in _RECEIVED and size > 0:
            received += size
            events[found[1]].append((float(call["start"]) + float(call["seconds"]), False))
    turns = 0
    for connection in events.values():
        order = [sent for _, sent in sorted(connection)]
        turns += sum(before and not after for before, after in pairwise(order))
    return Calls(len(calls), turns, len(ours), received)


def _returned(rest: str) -> int:
    value = rest.rpartition(" = ")[2].split()
    return int(value[0]) if value and value[0].isdigit() else 0
