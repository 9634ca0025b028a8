"""What comes from a bridge's management socket, right, damaged or arbitrary: nothing of it holds the plugin up."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.openflow import Flow, Switch, UnreachableError
from tests.unit.tools import Peer, within

# Formats: OpenFlow Switch Specification 1.3.5
HELLO, ERROR, FLOW_MOD, MULTIPART_REPLY, BARRIER_REPLY = 0, 1, 14, 19, 21
COOKIE = 0xC142000000000001


def message(kind: int, body: bytes = b"", version: int = 4, length: int | None = None) -> bytes:
    """One message."""
    return struct.pack("!BBHI", version, kind, 8 + len(body) if length is None else length, 1) + body


def error(kind: int, code: int) -> bytes:
    """An error message."""
    return message(ERROR, struct.pack("!HH", kind, code) + bytes(64))


def statistics(*flows: bytes, more: bool = False) -> bytes:
    """A reply with flows."""
    return message(MULTIPART_REPLY, struct.pack("!HHxxxx", 1, int(more)) + b"".join(flows))


def described(flow: Flow, cookie: int = COOKIE) -> bytes:
    """A flow as a bridge tells of it."""
    rest = flow.packed()
    head = struct.pack("!HBxIIHHHHxxxxQQQ", 48 + len(rest), 0, 1, 2, flow.priority, 0, 0, 0, cookie, 3, 4)
    return head + rest


@contextlib.contextmanager
def bridge(said: bytes, *, seconds: float = 5, hangs_up: bool = False) -> Iterator[tuple[Switch, bytearray]]:
    """A connection to a bridge that says this, whatever it is asked, and what it hears."""
    heard = bytearray()

    def talk(client: socket.socket) -> None:
        client.sendall(said)
        if hangs_up:
            client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            heard.extend(data)

    with within(20), Peer(talk) as peer:
        switch = Switch(peer.path, "br", Deadline(seconds))
        try:
            yield switch, heard
        finally:
            switch.close()


PASSES = Flow(65001, True, ("in_port", b"\0\0\0\5"), ("eth_src", b"\2\0\0\0\0\1"))
DROPS = Flow(65000, False, ("in_port", b"\0\0\0\5"))


def test_flows_are_sent_as_the_specification_has_them() -> None:
    with bridge(message(HELLO) + message(BARRIER_REPLY)) as (switch, heard):
        switch.add([PASSES, DROPS], COOKIE)
    kinds, at = [], 0
    while at < len(heard):
        version, kind, length, _ = struct.unpack_from("!BBHI", heard, at)
        assert version == 4 and length >= 8
        kinds.append(kind)
        at += length
    assert kinds == [HELLO, FLOW_MOD, FLOW_MOD, 20]
    assert struct.pack("!Q", COOKIE) in heard


def test_the_flows_of_a_reply_are_read_in_all_its_parts() -> None:
    other = described(DROPS, COOKIE + 1)
    said = message(HELLO) + statistics(described(PASSES), more=True) + statistics(described(DROPS), other)
    with bridge(said) as (switch, _):
        found = switch.keys(COOKIE)
    assert found == {COOKIE: {PASSES.key(), DROPS.key()}, COOKIE + 1: {DROPS.key()}}


def test_a_flow_is_the_same_whatever_the_order_of_its_fields() -> None:
    other = Flow(65001, True, ("eth_src", b"\2\0\0\0\0\1"), ("in_port", b"\0\0\0\5"))
    assert other.key() == PASSES.key()
    assert DROPS.key() != Flow(65000, True, ("in_port", b"\0\0\0\5")).key()


def test_a_flow_can_be_told_to_a_person() -> None:
    assert PASSES.text(COOKIE) == (
        "cookie=0xc142000000000001,priority=65001,reg15=0,in_port=5,eth_src=02:00:00:00:00:01,"
        "actions=load:0x636e69->reg15[],resubmit(,0)"
    )


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        (error(0, 0), 108, "does not speak OpenFlow 1.3"),
        (message(HELLO) + error(4, 9), 108, "refused a flow: OpenFlow error 4, 9"),
        (message(HELLO, length=0), 108, "without a length"),
        (message(HELLO, length=7), 108, "without a length"),
    ],
)
def test_a_refusal_is_told(said: bytes, code: int, text: str) -> None:
    with bridge(said) as (switch, _), pytest.raises(CniError) as caught:
        switch.add([PASSES], COOKIE)
    assert caught.value.code == code
    assert text in caught.value.msg and "'br'" in caught.value.msg


@pytest.mark.parametrize("said", [b"", b"\4", message(HELLO), message(BARRIER_REPLY)[:-1]])
@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_bridge_that_says_too_little_is_waited_for_until_the_deadline(said: bytes, hangs_up: bool) -> None:
    with bridge(said, seconds=0.3, hangs_up=hangs_up) as (switch, _), pytest.raises(CniError) as caught:
        switch.add([PASSES], COOKIE)
    assert caught.value.code == 11
    assert ("closed" if hangs_up else "timed out") in caught.value.msg


@pytest.mark.parametrize("cut", [1, 8, 47, 49, 60])
def test_a_flow_that_is_cut_off_is_told(cut: int) -> None:
    said = message(HELLO) + statistics(described(PASSES)[:-cut])
    with bridge(said) as (switch, _), pytest.raises(CniError) as caught:
        switch.keys(COOKIE)
    assert caught.value.code == 108


def test_nobody_at_the_socket_is_an_error_of_its_own(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mgmt", tmp_path, Path("/" + "x" * 200)):
        with pytest.raises(UnreachableError):
            Switch(str(path), "br", Deadline(1))


@settings(deadline=None, max_examples=60)
@given(
    said=st.binary(max_size=300),
    prefix=st.sampled_from([b"", message(HELLO), message(HELLO) + b"\4\x13\0\x40\0\0\0\1"]),
)
@example(said=b"", prefix=message(HELLO) + statistics(bytes(56)))
@example(said=b"", prefix=message(HELLO) + statistics(struct.pack("!H", 56) + bytes(54)))
def test_arbitrary_bytes_are_an_answer_or_an_error_in_time(prefix: bytes, said: bytes) -> None:
    with bridge(prefix + said, seconds=0.2, hangs_up=True) as (switch, _):
        for ask in (lambda: switch.keys(COOKIE), lambda: switch.remove(COOKIE)):
            with contextlib.suppress(CniError):
                ask()
