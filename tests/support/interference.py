"""Interfering with the plugin at one of its system calls, by strace: no hook in the code, and the very binary."""

from __future__ import annotations

import re
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.plugin import Attachment, Outcome

# The plugin only, not the IPAM plugin that it starts: that goes on by itself, as in a crash.
_STRACE = ("strace", "-qqq", "--signal=none")
# Calls by which something is changed or learned outside of the process. The others (memory, its own file descriptors,
# the clock) lie between two of those.
VISIBLE = frozenset(
    """bind clone clone3 connect execve fork ftruncate ioctl kill link linkat listen memfd_create mkdir mkdirat mount
    open openat pidfd_open pidfd_send_signal pipe2 ppoll poll read recvfrom recvmsg rename renameat2 rmdir sendmsg
    sendto setns setsockopt socket symlink unlink unlinkat vfork wait4 waitid write writev""".split()  # noqa: SIM905 - to read
)


@dataclass(frozen=True)
class Call:
    """A system call of a run: which of all and which of its name it is, both from 1, and strace's line."""

    number: int
    name: str
    occurrence: int  # strace counts each name for itself
    line: str

    def __str__(self) -> str:
        return f"call {self.number} ({self.line})"

    @property
    def visible(self) -> bool:
        """Whether it has to do with the world outside of the process."""
        return self.name in VISIBLE


def record(attachment: Attachment, command: str) -> tuple[Outcome, list[Call]]:
    """Runs a command unharmed; returns its system calls too."""
    with tempfile.NamedTemporaryFile(prefix="calls-") as log:
        outcome = _run(attachment, command, "-o", log.name)
        lines = Path(log.name).read_text(errors="replace").splitlines()
    calls: list[Call] = []
    seen: Counter[str] = Counter()
    for line in lines:
        found = re.match(r"(\w+)\(", line)
        if found:
            seen[found[1]] += 1
            calls.append(Call(len(calls) + 1, found[1], seen[found[1]], line))
    return outcome, calls


def killed(attachment: Attachment, command: str, call: Call, exit_code: int = 0) -> bool:
    """Runs a command that is killed (SIGKILL) instead of making this system call; False if it did not come to that.

    `exit_code` is what it ends with if it is not killed.
    """
    outcome, _ = _injected(attachment, command, call, "signal=KILL")
    assert outcome.exit_code in (-signal.SIGKILL, exit_code), outcome
    return outcome.exit_code == -signal.SIGKILL


def failing(attachment: Attachment, command: str, call: Call, error: str) -> tuple[Outcome, str]:
    """Runs a command in which this system call is not made, but fails with `error` (as ENOMEM).

    The second value is strace's line of the call that failed. It may be another one of the same name, because a run
    does not wait as often as the next, and it is empty if the command made fewer of them.
    """
    return _injected(attachment, command, call, f"error={error}")


def _injected(attachment: Attachment, command: str, call: Call, what: str) -> tuple[Outcome, str]:
    with tempfile.NamedTemporaryFile(prefix="calls-") as log:
        inject = f"inject={call.name}:{what}:when={call.occurrence}"
        outcome = _run(attachment, command, "-o", log.name, "-e", f"trace={call.name}", "-e", inject)
        lines = Path(log.name).read_text(errors="replace").splitlines()
    return outcome, next((line for line in lines if line.endswith("(INJECTED)")), "")


def _run(attachment: Attachment, command: str, *options: str) -> Outcome:
    return attachment.plugin.run(
        attachment.environment(command), attachment.stdin(command), wrapper=(*_STRACE, *options), timeout=30
    )


def around_visible(calls: Sequence[Call]) -> list[Call]:
    """Where to kill so that it happens between each two of the visible calls: at each of them, and after the last."""
    found = [call for call in calls if call.visible]
    last = [call for call in calls if call.name == "exit_group"]
    return [*found, *last]
