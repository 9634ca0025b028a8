"""The transport to ovsdb-server: JSON-RPC in bytes written by hand, over a real socket, from a peer that may be odd."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.ovsdb import Client, TransactionError
from tests.unit.tools import NO_SOCKET, Json, Peer, Requests, within

# Braces, quotes and backslashes inside strings, and characters of several bytes: nothing of it ends a message.
TRICKY = '{"a}":["}{","\\"}","\\\\",{"ü":"€𝄞}"}],"\\u007d":{}}'.encode()


@contextlib.contextmanager
def talking_to(talk: Callable[[socket.socket], None], seconds: float = 10) -> Iterator[Client]:
    """A client whose peer does what `talk` does with the connection."""
    with Peer(talk) as peer, contextlib.closing(Client(peer.address, Deadline(seconds))) as client, within(20):
        yield client


def says(*parts: bytes, pause: float = 0.0, then_wait: bool = True) -> Callable[[socket.socket], None]:
    """A peer that waits for the first request and sends these parts, then waits until the client closes."""

    def talk(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        while then_wait and connection.recv(1 << 16):
            pass

    return talk


def answer(number: int, result: bytes = b"[]", error: bytes = b"null") -> bytes:
    """An answer, as ovsdb-server writes it."""
    return b'{"id":%d,"result":%s,"error":%s}' % (number, result, error)


# What is sent


def test_requests_are_what_the_rfc_demands_and_are_numbered() -> None:
    seen: list[Json | None] = []

    def talk(connection: socket.socket) -> None:
        requests = Requests(connection)
        seen.extend(requests.next() for _ in range(3))
        connection.sendall(answer(1) + answer(2) + answer(3))
        seen.append(requests.next())

    with talking_to(talk) as client:
        numbers = [
            client.send("echo", ["ü", 1, None, {"a": [True]}]),
            client.send_transaction("Open_vSwitch", [{"op": "comment", "comment": "\0€"}, {"op": "abort"}]),
            client.send("list_dbs", []),
        ]
        for number in numbers:
            client.receive(number)
    assert len(set(numbers)) == 3
    assert seen == [
        {"method": "echo", "params": ["ü", 1, None, {"a": [True]}], "id": numbers[0]},
        {
            "method": "transact",
            "params": ["Open_vSwitch", {"op": "comment", "comment": "\0€"}, {"op": "abort"}],
            "id": numbers[1],
        },
        {"method": "list_dbs", "params": [], "id": numbers[2]},
        None,
    ]


def test_a_request_larger_than_the_socket_takes_at_once_is_sent_whole() -> None:
    text = "x" * 3_000_000

    def talk(connection: socket.socket) -> None:
        requests = Requests(connection)
        time.sleep(0.05)
        request = requests.next()
        assert request and request["params"] == [text]
        connection.sendall(answer(1, b"true"))
        requests.next()

    with talking_to(talk) as client:
        assert client.call("echo", [text]) is True


# How answers arrive


def test_an_answer_may_be_split_anywhere() -> None:
    length = len(answer(100, TRICKY))
    expected = json.loads(TRICKY)

    def talk(connection: socket.socket) -> None:
        requests = Requests(connection)
        for at in range(length + 1):
            request = requests.next()
            assert request is not None
            data = answer(request["id"], TRICKY)
            connection.sendall(data[:at])
            time.sleep(0.0005)
            connection.sendall(data[at:])
        requests.next()

    with talking_to(talk) as client:
        for _ in range(length + 1):
            assert client.call("get", []) == expected


def test_an_answer_may_come_byte_by_byte() -> None:
    data = answer(1, TRICKY)
    with talking_to(says(*(data[i : i + 1] for i in range(len(data))), pause=0.0002)) as client:
        assert client.call("get", []) == json.loads(TRICKY)


@pytest.mark.parametrize("between", [b"", b"\n", b" \r\n\t "], ids=ascii)
def test_several_answers_may_come_together_and_in_any_order(between: bytes) -> None:
    together = between.join([b"", answer(3, b'"c"'), answer(1, TRICKY), answer(2, b'"b"'), b""])
    with talking_to(says(together)) as client:
        for _ in range(3):
            client.send("get", [])
        assert [client.receive(n) for n in (2, 3, 1)] == ["b", "c", json.loads(TRICKY)]


@given(st.lists(st.integers(1, 60), max_size=12))
@example([len(answer(1, TRICKY)) + 5])  # the first answer, and the beginning of the second
def test_several_answers_may_be_cut_anywhere(cuts: list[int]) -> None:
    data = answer(1, TRICKY) + answer(2, b"[2]") + b'{"id":null,"method":"locked","params":["x"]}' + answer(3, TRICKY)
    parts = []
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    with talking_to(says(*parts, data, pause=0.0002)) as client:
        for _ in range(3):
            client.send("get", [])
        assert [client.receive(n) for n in (1, 2, 3)] == [json.loads(TRICKY), [2], json.loads(TRICKY)]


def test_an_answer_is_not_kept_back_because_the_next_message_is_cut_off() -> None:
    with talking_to(says(answer(1, b"[1]") + b'{"id":2,"resu'), seconds=0.5) as client:
        assert client.call("get", []) == [1]


def test_a_large_answer_is_read() -> None:
    rows = [{"name": f"port{i}", "map": ["map", [["k", "v}"]]]} for i in range(30_000)]
    with talking_to(says(answer(1, json.dumps(rows).encode()))) as client:
        assert client.call("get", []) == rows


def test_ten_thousand_messages_at_once_are_sorted_in_time() -> None:
    many = b"".join(b'{"id":null,"method":"update","params":[%d]}' % n for n in range(10_000))
    with talking_to(says(many + answer(1, b"[1]")), seconds=10) as client:
        start = time.monotonic()
        assert client.call("get", []) == [1]
        assert time.monotonic() - start < 5


# Messages that are no answers


def test_an_echo_is_answered_with_what_was_asked() -> None:
    seen: list[Json | None] = []

    def talk(connection: socket.socket) -> None:
        requests = Requests(connection)
        requests.next()
        for identifier in ('"echo"', "7", "null"):
            connection.sendall(b'{"id":%s,"method":"echo","params":["ping",{"a":1}]}' % identifier.encode())
            seen.append(requests.next())
        connection.sendall(b'{"id":"echo","method":"echo","params":[]}' + answer(1, b'"done"'))
        seen.append(requests.next())
        requests.next()

    with talking_to(talk) as client:
        assert client.call("get", []) == "done"
    params = ["ping", {"a": 1}]
    assert seen == [
        *({"id": identifier, "result": params, "error": None} for identifier in ("echo", 7, None)),
        {"id": "echo", "result": [], "error": None},
    ]


@pytest.mark.parametrize(
    "other",
    [
        b'{"id":null,"method":"locked","params":["ovs_vswitchd"]}',
        b'{"id":1,"method":"update","params":[null,{}]}',  # a request of the peer's has numbers of its own
        b'{"id":99,"result":[],"error":null}',
        b'{"id":"1","result":["text"],"error":null}',
        b'{"id":null,"result":null,"error":"x"}',
        b'{"id":[1],"result":1}',
        b'{"id":1.5,"result":1}',
        b"{}",
    ],
)
def test_messages_that_answer_nothing_are_passed_over(other: bytes) -> None:
    with talking_to(says(other + other + answer(1, b'"mine"') + other)) as client:
        assert client.call("get", []) == "mine"


# Answers that are errors


@pytest.mark.parametrize("error", [b'"unknown method"', b'{"error":"syntax error","details":"x"}', b"0", b"false"])
def test_an_answer_that_is_an_error_is_told(error: bytes) -> None:
    with talking_to(says(answer(1, b"null", error))) as client, pytest.raises(TransactionError) as caught:
        client.call("get", [])
    assert caught.value.code == 107
    assert json.loads(caught.value.details) == json.loads(error)


@pytest.mark.parametrize(
    "results",
    [
        b'[{},{"error":"constraint violation","details":"why"},null]',
        b'[null,{"error":"constraint violation","details":"why"}]',
        b'[{},{},{},{"error":"constraint violation","details":"why"}]',  # the commit failed
    ],
)
def test_a_transaction_fails_with_the_first_error_among_its_results(results: bytes) -> None:
    with talking_to(says(answer(1, results))) as client, pytest.raises(TransactionError) as caught:
        client.receive_transaction(client.send_transaction("Open_vSwitch", [{"op": "abort"}]))
    assert (caught.value.code, caught.value.error, caught.value.details) == (107, "constraint violation", "why")
    assert "constraint violation" in caught.value.msg


@pytest.mark.parametrize("error", [b'{"error":"timed out"}', b'{"error":"timed out","details":null}'])
def test_an_error_may_have_no_details(error: bytes) -> None:
    with talking_to(says(answer(1, b"[%s]" % error))) as client, pytest.raises(TransactionError) as caught:
        client.receive_transaction(client.send_transaction("Open_vSwitch", []))
    assert caught.value.error == "timed out"
    assert caught.value.details in ("", "None")


@pytest.mark.parametrize("results", [b"null", b'"x"', b"{}", b"1"])
def test_results_that_are_no_list_are_refused(results: bytes) -> None:
    with talking_to(says(answer(1, results))) as client, pytest.raises(CniError) as caught:
        client.receive_transaction(client.send_transaction("Open_vSwitch", []))
    assert caught.value.code == 107
    assert not isinstance(caught.value, TransactionError)  # which would say that nothing was done


def test_results_come_in_the_order_of_the_operations() -> None:
    with talking_to(says(answer(1, b'[{"rows":[1]},{},{"count":3}]'))) as client:
        assert client.receive_transaction(client.send_transaction("Open_vSwitch", [])) == [
            {"rows": [1]},
            {},
            {"count": 3},
        ]


def test_an_error_does_not_spoil_the_connection() -> None:
    with talking_to(says(answer(1, b"null", b'"no"') + answer(2, b'[{"error":"no"}]') + answer(3, b"[{}]"))) as client:
        numbers = [client.send_transaction("x", []) for _ in range(3)]
        for number in numbers[:2]:
            with pytest.raises(TransactionError):
                client.receive_transaction(number)
        assert client.receive_transaction(numbers[2]) == [{}]


# Peers that are no ovsdb-server, or do not live


@pytest.mark.parametrize("sent", [b"", b'{"id":1,"resu', answer(9), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_connection_that_is_closed_is_told_at_once(sent: bytes) -> None:
    start = time.monotonic()
    with talking_to(says(sent, then_wait=False)) as client, pytest.raises(CniError) as caught:
        client.call("get", [])
    assert time.monotonic() - start < 5
    assert caught.value.code == 11
    assert "broke" in caught.value.msg and client.address in caught.value.msg


def test_sending_to_a_peer_that_has_gone_is_told() -> None:
    with talking_to(lambda _: None, seconds=5) as client:
        time.sleep(0.1)
        with pytest.raises(CniError, match="broke") as caught:
            client.send("get", [])
    assert caught.value.code == 11


def test_silence_ends_with_the_deadline() -> None:
    start = time.monotonic()
    with talking_to(says(), seconds=0.3) as client, pytest.raises(CniError) as caught:
        client.call("get", [])
    assert 0.25 < time.monotonic() - start < 2
    assert caught.value.code == 11
    assert "timed out" in caught.value.msg and client.address in caught.value.msg


def test_a_peer_that_reads_nothing_ends_with_the_deadline() -> None:
    def talk(connection: socket.socket) -> None:
        time.sleep(0.6)

    with talking_to(talk, seconds=0.3) as client, pytest.raises(CniError) as caught:
        client.send("get", ["x" * 8_000_000])
    assert caught.value.code == 11
    assert "timed out" in caught.value.msg


@pytest.mark.parametrize(
    "word",
    [b'{"id":null,"method":"update","params":[]}', b'{"id":"e","method":"echo","params":[]}', b" ", b"{"],
    ids=ascii,
)
def test_a_peer_that_never_stops_talking_ends_with_the_deadline(word: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.setblocking(False)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                connection.send(word * 100)
            with contextlib.suppress(BlockingIOError):
                while connection.recv(1 << 16):  # the answers to echo
                    pass

    start = time.monotonic()
    with talking_to(talk, seconds=0.5) as client, pytest.raises(CniError) as caught:
        client.call("get", [])
    assert caught.value.code == 11
    assert time.monotonic() - start < 3


def test_no_number_of_messages_keeps_us_beyond_the_deadline() -> None:
    with talking_to(says(b"{}" * 400_000), seconds=0.2) as client:
        before = time.thread_time()
        with pytest.raises(CniError, match="timed out"):
            client.call("get", [])
        assert time.thread_time() - before < 1  # not 3 for each 256 KiB


@pytest.mark.parametrize(
    "sent", [b"hello}", b"\xff}", b"}", b'{"id":1,"result":NaN}', b"{" * 100_000 + b"}", b"1}", b"[]}"], ids=range(7)
)
def test_garbage_is_told_as_an_error(sent: bytes) -> None:
    with talking_to(says(sent), seconds=0.4) as client, pytest.raises(CniError) as caught:
        client.call("get", [])
    assert caught.value.code == 11


@given(
    st.binary(max_size=60)
    | st.text('{}[]",:01"idresulterrormethod ', max_size=60).map(str.encode)
    | st.sampled_from([b"1", b"1e400", b'"x"', b"[1e400]", b"[{}]", b'[{"error":1e400}]', b'[{"error":{}}]']).flatmap(
        lambda value: st.sampled_from([answer(1, value), answer(1, b"null", value)])
    )
)
@example(answer(1, b"1e400"))
@example(answer(1, b"null", b"1e400"))
def test_no_bytes_make_anything_but_an_answer_or_an_error(sent: bytes) -> None:
    with talking_to(says(sent, then_wait=False), seconds=2) as client:
        try:
            results = client.receive_transaction(client.send_transaction("Open_vSwitch", []))
        except CniError as error:
            if error.code not in (11, 107):
                raise
        else:
            assert all(isinstance(result, dict) for result in results)


# Connecting


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "dead"])
def test_an_address_where_nobody_listens_is_told_with_what_to_do(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dead":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    address = f"unix:{NO_SOCKET if kind == 'missing' else path}"
    with pytest.raises(CniError) as caught:
        Client(address, Deadline(5))
    assert caught.value.code == 11
    assert address in caught.value.msg
    assert "socket_file" in caught.value.details


@pytest.mark.parametrize("seconds", [0.3, 0.0])
def test_a_listener_that_takes_nobody_ends_with_the_deadline(seconds: float, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting, within(10):
        listener.bind(path)
        listener.listen(0)
        for _ in range(3):  # as a stopped ovsdb-server, whose queue is full
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(path)
        start = time.monotonic()
        with pytest.raises(CniError) as caught:
            Client(f"unix:{path}", Deadline(seconds))
        assert time.monotonic() - start < seconds + 1
    assert caught.value.code == 11
    assert "timed out" in caught.value.msg
