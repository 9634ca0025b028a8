"""A real ovsdb-server, one of whose answers arrives damaged: an error is told, and nothing is left in the end.

`--whole` damages each answer in every way; else each in some, and all ways come in turn.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.source import Source, damaged
from tests.support.node import Node
from tests.support.plugin import Attachment, Json, Outcome

pytestmark = [pytest.mark.one_target, pytest.mark.timeout(600)]

PART = 3  # without --whole: every third way
VARIANTS = 3  # of the damage to each answer, besides those that are always tried


class Relay:
    """A socket in front of ovsdb-server's that may change one of its answers.

    Attributes:
        answers: those that ovsdb-server has given since the last `reset`.
        step: of the ways to change an answer, every how many are tried.
    """

    def __init__(self, path: Path, server: str) -> None:
        """Listens at `path`."""
        self.remote = f"unix:{path}"
        self.answers: list[Json] = []
        self._which = -1
        self.step = PART
        self._change: Callable[[Json], bytes] = lambda answer: b""
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, which: int = -1, change: Callable[[Json], bytes] = lambda answer: b"") -> None:
        """Says which answer is to be changed, from 0, and how; nothing is said if it becomes nothing."""
        self.answers, self._which, self._change = [], which, change

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 20):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            text = ""
            while data := server.recv(1 << 20):
                text += data.decode()
                while text:
                    try:
                        answer, end = json.JSONDecoder().raw_decode(text)
                    except ValueError:
                        break  # not complete yet
                    said, text = text[:end].encode(), text[end:]
                    if isinstance(answer.get("id"), int):
                        self.answers.append(answer)
                        if len(self.answers) - 1 == self._which:
                            said = self._change(answer)
                            if not said:
                                return
                    client.sendall(said)

    def close(self) -> None:
        """Takes nobody any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def relay(node: Node, request: pytest.FixtureRequest) -> Iterator[Relay]:
    made = Relay(node.openvswitch.folder / f"{node.bridge}.sock", node.openvswitch.socket)
    made.step = 1 if request.config.getoption("--whole") else PART
    try:
        yield made
    finally:
        made.close()


def changes(seed: str) -> list[Callable[[Json], bytes]]:
    """Ways to change an answer: the same in each run."""
    chance = random.Random(seed)

    def some(data: bytes) -> Callable[[Json], bytes]:
        return lambda answer: json.dumps({**answer, "result": damaged(answer["result"], Source(data))}).encode()

    def instead(result: Any) -> Callable[[Json], bytes]:
        return lambda answer: json.dumps({**answer, "result": result}).encode()

    return [
        lambda answer: b"",
        lambda answer: json.dumps(answer).encode()[:-3],
        lambda answer: b"\xff" + json.dumps(answer).encode(),
        lambda answer: json.dumps({**answer, "result": None, "error": {"error": "no"}}).encode(),
        *map(instead, (None, [], [{}] * 9, [{"rows": [{}]}] * 9)),
        *(some(bytes((1 + chance.randrange(4), *chance.randbytes(40)))) for _ in range(VARIANTS)),
    ]


def judge(outcome: Outcome) -> None:
    """It is a success, or an error that is none of ours."""
    assert outcome.exit_code == 0 or outcome.error()["code"] != 999, outcome
    assert outcome.seconds < 10, outcome


def each_damage(relay: Relay, run: Callable[[], Outcome], between: Callable[[Outcome], None]) -> None:
    """Runs a command unharmed, and then once for each change of each answer."""
    relay.reset()
    between(run().ok())
    count = len(relay.answers)
    assert count >= 1
    for which in range(count):
        for number, change in list(enumerate(changes(f"{which}")))[which % relay.step :: relay.step]:
            relay.reset(which, change)
            outcome = run()
            judge(outcome)
            relay.reset()
            try:
                between(outcome)
            except AssertionError as error:
                raise AssertionError(f"answer {which} changed by {number}: {outcome}") from error


def attachment(node: Node, relay: Relay, kind: str) -> Attachment:
    """An attachment whose Open vSwitch is behind the relay."""
    gc: Json = {"cni.dev/valid-attachments": []}
    return node.attachment(interface_type=kind, timeout=1, ipam=node.host_local(), socket_file=relay.remote, **gc)


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_an_add_that_got_a_damaged_answer_leaves_nothing(node: Node, relay: Relay, kind: str) -> None:
    pod = attachment(node, relay, kind)

    def between(outcome: Outcome) -> None:
        if outcome.exit_code == 0:
            pod.delete().silent()
        node.assert_nothing_left()

    each_damage(relay, pod.add, between)


def test_a_check_that_got_a_damaged_answer_is_right_the_next_time(node: Node, relay: Relay) -> None:
    pod = attachment(node, relay, "veth")
    pod.add().ok()
    each_damage(relay, pod.check, lambda outcome: None)
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize(("command", "kind"), [("DEL", "internal"), ("GC", "veth")])
def test_the_next_delete_finishes_what_one_with_a_damaged_answer_left(
    node: Node, relay: Relay, command: str, kind: str
) -> None:
    pod = attachment(node, relay, kind)
    pod.add().ok()

    def between(outcome: Outcome) -> None:
        pod.delete().silent()
        node.assert_nothing_left()
        pod.add().ok()

    each_damage(relay, pod.delete if command == "DEL" else pod.gc, between)


def test_status_says_something_whatever_it_is_answered(node: Node, relay: Relay) -> None:
    pod = attachment(node, relay, "veth")
    each_damage(relay, pod.status, lambda outcome: None)
    pod.status().silent()
