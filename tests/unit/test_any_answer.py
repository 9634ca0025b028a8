"""Whatever ovsdb-server and the kernel answer: a command ends, with CNI's JSON, and never with an unexpected error.

ADD and CHECK need a container: for these tests/fault/test_damaged_answers.py damages the answers of a real
ovsdb-server, and tests/fuzz those of one in memory.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.plugin import netlink, vswitch
from tests.fuzz.source import places_in
from tests.unit.tools import CONFIG, Json, Outcome, Peer, Requests, invoke, within

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

UUID = "0f3c1d5e-0000-4000-8000-000000000001"
CODES = (11, 50, 100, 107)
ROW: Json = {
    "_uuid": ["uuid", UUID],
    "name": "cni0123456789ab",
    "type": "internal",
    "external_ids": ["map", [["owner", "cni-ovs"], ["contNetwork", "unit-test"], ["contID", "x"], ["contIface", "y"]]],
    **{key: ["set", []] for key in ("tag", "trunks", "cvlans", "vlan_mode", "error")},
    "datapath_id": "0000000000000001",
    "datapath_type": "netdev",
    "ofport": 1,
    "next_cfg": 7,
    "cur_cfg": 7,
}
NUMBERS = [0, -1, 1.5, 1 << 70]
words = st.sampled_from(
    ["", "x", "map", "set", "uuid", "cni0123456789ab", 'quo"te', "line\nbreak", "\udcff", "x" * 70000]
)
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=2),
)
# One value of an answer after the other becomes another one: (which of all, what).
damages = st.lists(st.tuples(st.integers(0, 200), values), min_size=1, max_size=3)


def _answer(request: Json) -> Any:
    if request["method"] != "transact":
        return {"locked": False}
    results: list[Any] = []
    for operation in request["params"][1:]:
        if operation["op"] == "select":
            results.append({"rows": [{column: ROW.get(column, ["set", []]) for column in operation["columns"]}]})
        else:
            results.append({"count": 1})
    return results


def _damaged(answer: Any, damage: list[tuple[int, Any]]) -> Any:
    for number, value in damage:
        places = places_in(answer)
        if places:
            container, key = places[number % len(places)]
            container[key] = copy.deepcopy(value)
    return answer


@pytest.mark.parametrize("command", ["DEL", "GC", "STATUS"])
@given(damage=damages)
def test_no_answer_of_the_database_makes_another_exception(command: str, damage: list[tuple[int, Any]]) -> None:
    outcome = _answered(command, lambda request: _damaged([copy.deepcopy(_answer(request))], damage)[0])
    if outcome.exit_code:
        outcome.error(*CODES)
    else:
        outcome.silent()


class _AskedAgain(Exception):  # noqa: N818 - it is none
    pass


class _Kernel:
    """Gives one recorded answer, damaged, to each question."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._asked = 0

    def send(self, request: bytes) -> int:
        self._asked += 1
        return len(request)

    def recv(self, size: int) -> bytes:
        self._asked -= 1
        if self._asked < 0:
            raise _AskedAgain  # it waits for the rest of a dump, which the real kernel would send
        return self._answer[:size]


def _recorded() -> dict[str, bytes]:
    """What the kernel really says of lo, its addresses and its routes, the sequence number being 1."""
    recorded = {}
    for name in ("link", "addresses", "routes"):
        asked = netlink.Netlink()
        real = asked._socket

        class Recorder:
            def __init__(self) -> None:
                self.said = b""

            def send(self, request: bytes) -> int:
                return real.send(request)  # noqa: B023 - used at once

            def recv(self, size: int) -> bytes:
                data: bytes = real.recv(size)  # noqa: B023
                self.said += data
                return data

        recorder = Recorder()
        asked._socket = recorder  # type: ignore[assignment] # as much of a socket as is used
        _ask(asked, name)
        recorded[name] = recorder.said
        real.close()
    return recorded


def _ask(kernel: netlink.Netlink, name: str) -> object:
    if name == "link":
        return kernel.link("lo")
    return kernel.addresses(1) if name == "addresses" else kernel.routes(socket.AF_INET)


RECORDED = _recorded()


@given(
    st.sampled_from(sorted(RECORDED)),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 1 << 16),
)
def test_no_answer_of_the_kernel_keeps_us(name: str, changes: list[tuple[int, bytes]], length: int) -> None:
    """It ends: in what was asked for, or in an error of the kernel's."""
    answer = bytearray(RECORDED[name])
    for number, data in changes:
        place = number % len(answer)
        answer[place : place + len(data)] = data
    kernel = netlink.Netlink()
    kernel._socket.close()
    kernel._socket = _Kernel(  # type: ignore[assignment] # likewise
        bytes(answer[: max(16, length % (2 * len(answer)))])
    )
    with within(2), contextlib.suppress(OSError, _AskedAgain):
        _ask(kernel, name)


WRONG_RESULTS: dict[str, Any] = {
    "none": [],
    "too few": [{"count": 1}],
    "no rows": [{}] * 9,
    "rows that are none": [{"rows": 1}] * 9,
    "a row that is none": [{"rows": [1]}] * 9,
    "rows without columns": [{"rows": [{}]}] * 9,
    "a number that is none": [{"count": "1"}] * 9,
}
WRONG_COLUMNS: dict[str, Any] = {
    "_uuid": ["uuid"],
    "name": 5,
    "type": None,
    "external_ids": ["map", [["contID", 5]]],
    "tag": "5",
    "trunks": ["set", ["5"]],
    "vlan_mode": 1,
    "datapath_id": 1,
    "datapath_type": ["set", []],
    "next_cfg": "7",
    "cur_cfg": None,
}


@pytest.mark.parametrize("results", WRONG_RESULTS.values(), ids=WRONG_RESULTS.keys())
@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_results_that_are_not_those_of_the_operations_are_refused(command: str, results: Any) -> None:
    outcome = _answered(command, lambda request: results)
    assert "an answer of unknown form" in outcome.error(107)["msg"]


@pytest.mark.parametrize(("column", "value"), WRONG_COLUMNS.items(), ids=WRONG_COLUMNS.keys())
def test_a_column_of_another_kind_is_refused(column: str, value: object) -> None:
    asked: set[str] = set()

    def answer(request: Json) -> Any:
        results = _answer(request)
        for result in results if isinstance(results, list) else ():
            for row in result.get("rows", ()):
                asked.update(row)
                if column in row:
                    row[column] = value
        return results

    outcomes = [_answered(command, answer) for command in ("DEL", "GC", "STATUS")]
    assert column in asked
    assert any(outcome.exit_code and outcome.error(107, 50) for outcome in outcomes)


@pytest.mark.parametrize(("column", "right", "wrong"), [("ofport", 5, [5]), ("error", ["set", []], {})])
def test_so_is_one_that_only_add_and_check_read(column: str, right: object, wrong: object) -> None:
    assert vswitch._has_columns({column: right}, [column])
    assert not vswitch._has_columns({column: wrong}, [column])
    assert not vswitch._has_columns({}, [column])


def test_what_is_no_answer_about_the_lock_says_that_nobody_has_it() -> None:
    def answer(request: Json) -> Any:
        return [1] if request["method"] == "lock" else _answer(request)

    assert "is not running" in _answered("STATUS", answer).error(50)["msg"]


def _answered(command: str, answer: Callable[[Json], Any]) -> Outcome:
    """Carry out a command whose requests are answered so."""

    def talk(connection: socket.socket) -> None:
        requests = Requests(connection)
        while (request := requests.next()) is not None:
            connection.sendall(json.dumps({"id": request["id"], "error": None, "result": answer(request)}).encode())

    with Peer(talk) as peer, within(10):
        config = {**CONFIG, "socket_file": peer.address, "timeout": 1, "cni.dev/valid-attachments": []}
        outcome = invoke(command, config)
        gc.collect()  # closes the connection
        return outcome
