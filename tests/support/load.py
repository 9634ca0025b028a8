"""Many attachments and many commands at once, some of them killed at a random moment."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.node import Node
from tests.support.plugin import Attachment

AT_ONCE = 32
PER_SANDBOX = 10
KILLED = 0.05  # of the commands


class Load:
    """The attachments, and what became of the commands."""

    def __init__(self, node: Node, count: int, at_once: int = AT_ONCE) -> None:
        """Attaches nothing yet."""
        self.at_once = at_once
        self.random = random.Random()
        self.killed = 0
        self.errors: list[str] = []
        sandboxes = [node.sandbox() for _ in range(count // PER_SANDBOX)]
        self.pods = [
            node.attachment(
                sandbox=sandbox,
                ifname=f"net{number}",
                interface_type="internal" if number == 0 else "veth",
                ipam=node.host_local("10.10.0.0/16"),
                timeout=60,
            )
            for sandbox in sandboxes
            for number in range(PER_SANDBOX)
        ]

    def run(self, work: Callable[[Attachment], None], pods: Sequence[Attachment]) -> tuple[float, float]:
        """Does it for each, many at once; returns how many per second, among the first tenth and the last tenth."""
        ended: list[float] = []

        def one(pod: Attachment) -> None:
            try:
                work(pod)
            except AssertionError as error:
                self.errors.append(f"{work.__name__}: {error}")
            ended.append(time.monotonic())

        started = time.monotonic()
        with ThreadPoolExecutor(self.at_once) as pool:
            list(pool.map(one, pods))
        tenth = len(pods) // 10
        return tenth / (ended[tenth - 1] - started), tenth / (ended[-1] - ended[-tenth - 1])

    def _killed(self, pod: Attachment, command: str) -> bool:
        """Perhaps runs a command and kills it at a random moment; True if it did, or was too late for that."""
        if self.random.random() >= KILLED:
            return False
        running = pod.start(command)
        if not running.ends_within(self.random.random() * 0.5):
            running.signal(signal.SIGKILL)
            self.killed += 1
            running.wait()
        else:
            running.wait().ok()
        return True

    def add(self, pod: Attachment) -> None:
        """ADD; if it was killed, DEL and another ADD, as a runtime does."""
        if self._killed(pod, "ADD"):
            pod.delete().silent()
        pod.add().ok()

    def check(self, pod: Attachment) -> None:
        """CHECK."""
        pod.check().silent()

    def delete(self, pod: Attachment) -> None:
        """DEL; if it was killed, another one."""
        self._killed(pod, "DEL")
        pod.delete().silent()
