"""What comes from the kernel's netlink socket, valid, damaged or arbitrary: nothing of it holds the plugin up."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from cni_ovs.plugin import netlink
from cni_ovs.plugin.netlink import WATCH_IPV6_ADDRESSES, KernelError, Netlink
from tests.unit.tools import within

# Formats: netlink(7), rtnetlink(7)
HEADER = struct.Struct("=IHHII")
LINK = struct.Struct("=BBHiII")
ADDRESS = struct.Struct("=BBBBI")
ROUTE = struct.Struct("=BBBBBBBBI")
ERROR, DONE, NEWLINK, NEWADDR, NEWROUTE = 2, 3, 16, 20, 24
MULTI, DUMP_INTERRUPTED, ACK_TLVS = 0x2, 0x10, 0x200
NESTED = 0x8000


class KernelsWord:
    """A Netlink whose socket has this to say, and then nothing more: reading on is a BlockingIOError."""

    def __init__(self, *datagrams: bytes, numbered_from: int = 0) -> None:
        self._ours, self._kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        for datagram in datagrams:
            self._kernels.send(datagram)
        self.netlink = Netlink()
        self.netlink.close()
        self.netlink._socket = self._ours
        self.netlink._sequence = numbered_from

    def __enter__(self) -> Netlink:
        return self.netlink

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._kernels.close()


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes, flags: int = 0, sequence: int = 1) -> bytes:
    """One message."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def u32(value: int) -> bytes:
    """A number."""
    return struct.pack("=I", value)


def link(name: str = "eth0", index: int = 7, up: bool = True, kind: bytes | None = b"veth\0") -> bytes:
    """A link message's body."""
    body = LINK.pack(0, 0, 1, index, 0x1003 if up else 0x1002, 0) + attribute(3, name.encode() + b"\0")
    body += attribute(4, u32(1500)) + attribute(1, bytes.fromhex("020000000001"))
    return body if kind is None else body + attribute(18 | NESTED, attribute(1, kind))


def address(packed: bytes, index: int = 7, flags: int | None = 0x80) -> bytes:
    """An address message's body."""
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    body = ADDRESS.pack(family, 24, 0x40, 0, index) + attribute(1, packed)
    return body if flags is None else body + attribute(8, u32(flags))


def route(packed: bytes | None, *extra: bytes, table: int = 254, kind: int = 1) -> bytes:
    """A route message's body."""
    body = ROUTE.pack(socket.AF_INET, 24 if packed else 0, 0, 0, table, 3, 253, kind, 0)
    return body + (attribute(1, packed) if packed else b"") + b"".join(extra)


def refusal(code: int, flags: int = 0, attributes: bytes = b"") -> bytes:
    """An error message; code 0 is an acknowledgement."""
    return message(ERROR, struct.pack("=i", -code) + bytes(16) + attributes, flags)


def end(flags: int = 0, sequence: int = 1) -> bytes:
    """The end of a dump."""
    return message(DONE, u32(0), MULTI | flags, sequence)


# What is right


def test_a_link_is_read() -> None:
    with KernelsWord(message(NEWLINK, link())) as kernel:
        found = kernel.link("eth0")
    assert found is not None
    assert (found.index, found.name, found.mtu, found.up, found.kind) == (7, "eth0", 1500, True, "veth")
    assert found.mac.hex(":") == "02:00:00:00:00:01"


def test_a_link_without_kind_or_state_is_read() -> None:
    with KernelsWord(message(NEWLINK, link(up=False, kind=None))) as kernel:
        found = kernel.link(7)
    assert found is not None
    assert (found.up, found.kind) == (False, "")


def test_the_device_that_a_link_belongs_to_is_read() -> None:
    of_hardware = link(kind=None) + attribute(56, b"0000:03:00.5\0") + attribute(57, b"pci\0")
    with KernelsWord(message(NEWLINK, of_hardware)) as kernel:
        found = kernel.link(7)
    assert found is not None and found.parent == "0000:03:00.5"
    with KernelsWord(message(NEWLINK, link())) as kernel:
        found = kernel.link(7)
    assert found is not None and found.parent == ""


def test_a_name_that_is_no_utf8_is_read() -> None:
    body = LINK.pack(0, 0, 1, 7, 0, 0) + attribute(3, b"\xff\xfe\0") + attribute(4, u32(1500))
    with KernelsWord(message(NEWLINK, body)) as kernel:
        found = kernel.link(7)
    assert found is not None
    assert os.fsencode(found.name) == b"\xff\xfe"


def test_a_link_that_is_not_there_is_none() -> None:
    with KernelsWord(refusal(errno.ENODEV)) as kernel:
        assert kernel.link("eth0") is None


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.EBUSY])
def test_other_refusals_are_raised_with_their_number_and_text(code: int) -> None:
    with KernelsWord(refusal(code)) as kernel, pytest.raises(KernelError) as caught:
        kernel.link("eth0")
    assert (caught.value.errno, caught.value.strerror) == (code, os.strerror(code))


def test_the_kernels_own_explanation_is_part_of_the_error() -> None:
    said = attribute(2, u32(5)) + attribute(1, b"Nexthop has invalid gateway\0")
    with KernelsWord(refusal(errno.EINVAL, ACK_TLVS, said)) as kernel, pytest.raises(KernelError) as caught:
        kernel.set_up(7)
    assert caught.value.strerror == "Invalid argument (Nexthop has invalid gateway)"


def test_an_acknowledgement_ends_a_request() -> None:
    with KernelsWord(refusal(0)) as kernel:
        kernel.set_up(7)


def test_messages_with_another_number_are_passed_over() -> None:
    strange = message(NEWADDR, address(bytes(4)), sequence=0) + message(ERROR, struct.pack("=i", -1) + bytes(16), 0, 99)
    with KernelsWord(strange, strange + refusal(0)) as kernel:
        kernel.set_up(7)


def test_a_dump_may_come_in_several_parts() -> None:
    parts = [message(NEWADDR, address(bytes((10, 0, 0, n))), MULTI) for n in range(4)]
    with KernelsWord(parts[0] + parts[1], parts[2], parts[3] + end()) as kernel:
        assert [found.packed[3] for found in kernel.addresses(7, socket.AF_INET)] == [0, 1, 2, 3]


def test_addresses_of_other_interfaces_are_left_out() -> None:
    # Kernels before 4.20 do not filter a dump.
    data = message(NEWADDR, address(bytes((10, 0, 0, 1)), index=6)) + message(NEWADDR, address(bytes((10, 0, 0, 2))))
    with KernelsWord(data + end()) as kernel:
        assert [found.packed for found in kernel.addresses(7)] == [bytes((10, 0, 0, 2))]


def test_the_flags_of_an_address_are_the_long_ones_where_there_are_some() -> None:
    data = message(NEWADDR, address(bytes(16), flags=0x300)) + message(NEWADDR, address(bytes(16), flags=None))
    with KernelsWord(data + end()) as kernel:
        assert [found.flags for found in kernel.addresses(7)] == [0x300, 0x40]


def test_the_local_address_of_a_point_to_point_link_counts() -> None:
    body = ADDRESS.pack(2, 32, 0, 0, 7) + attribute(1, bytes((10, 0, 0, 9))) + attribute(2, bytes((10, 0, 0, 1)))
    with KernelsWord(message(NEWADDR, body) + end()) as kernel:
        assert [found.packed for found in kernel.addresses(7)] == [bytes((10, 0, 0, 1))]


def test_routes_are_read_with_all_their_gateways() -> None:
    gateways = [bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))]
    hops = b"".join(struct.pack("=HBBi", 16, 0, 0, 7) + attribute(5, gateway) for gateway in gateways)
    data = (
        message(NEWROUTE, route(bytes((10, 1, 0, 0)), attribute(5, gateways[0])))
        + message(NEWROUTE, route(None, attribute(9, hops)))
        + message(NEWROUTE, route(bytes((10, 2, 0, 0)), attribute(15, u32(1000)), table=252))
        + message(NEWROUTE, route(bytes((10, 3, 0, 0)), kind=3))  # a broadcast
    )
    with KernelsWord(data + end()) as kernel:
        found = kernel.routes(socket.AF_INET)
    assert [(r.dst, r.prefix, r.gateways, r.table, r.scope) for r in found] == [
        (bytes((10, 1, 0, 0)), 24, gateways[:1], 254, 253),
        (bytes(4), 0, gateways, 254, 253),
        (bytes((10, 2, 0, 0)), 24, [], 1000, 253),
    ]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_empty_dump_is_an_empty_list(family: int) -> None:
    with KernelsWord(end()) as kernel:
        assert kernel.routes(family) == []
    with KernelsWord(end()) as kernel:
        assert kernel.addresses(7, family) == []


def test_a_dump_during_which_something_changed_is_repeated() -> None:
    first = message(NEWADDR, address(bytes((10, 0, 0, 1))), MULTI | DUMP_INTERRUPTED) + end(DUMP_INTERRUPTED)
    second = message(NEWADDR, address(bytes((10, 0, 0, 2))), MULTI, 2) + end(sequence=2)
    with KernelsWord(first, second) as kernel:
        assert [found.packed for found in kernel.addresses(7)] == [bytes((10, 0, 0, 2))]


def test_a_dump_that_never_settles_ends_with_an_error() -> None:
    answers = [message(NEWADDR, address(bytes(4)), MULTI, n) + end(DUMP_INTERRUPTED, n) for n in range(1, 20)]
    with within(5), KernelsWord(*answers) as kernel, pytest.raises(KernelError) as caught:
        kernel.addresses(7)
    assert caught.value.errno == errno.EINTR


def test_loopback_is_read_from_the_kernel() -> None:
    kernel = Netlink()
    try:
        found = kernel.link("lo")
        assert found is not None
        assert (found.index, found.name, found.mac, found.kind) == (1, "lo", bytes(6), "")
        assert (by_index := kernel.link(1)) is not None and by_index.name == "lo"
        assert kernel.link("no-such-link") is None
        with pytest.raises(KernelError):
            kernel.link("x" * 64)
    finally:
        kernel.close()


def test_a_socket_has_a_file_descriptor_until_it_is_closed() -> None:
    kernel = Netlink(WATCH_IPV6_ADDRESSES)
    assert os.fstat(kernel.fileno())
    kernel.close()
    assert kernel.fileno() == -1


# What is damaged

QUESTIONS: list[Callable[[Netlink], Any]] = [
    lambda kernel: kernel.link("eth0"),
    lambda kernel: kernel.link(7),
    lambda kernel: kernel.addresses(7, socket.AF_INET),
    lambda kernel: kernel.routes(socket.AF_INET),
    lambda kernel: kernel.set_up(7),
    lambda kernel: kernel.delete_link("eth0"),
]
GATEWAY = attribute(5, bytes((10, 0, 0, 1)))
VALID = [
    message(NEWLINK, link()),
    message(NEWADDR, address(bytes(4)), MULTI) + message(NEWADDR, address(bytes(16)), MULTI) + end(),
    message(NEWROUTE, route(bytes(4), GATEWAY))
    + message(NEWROUTE, route(None, attribute(9, bytes(8) + GATEWAY)))
    + end(),
    refusal(errno.EINVAL, ACK_TLVS, attribute(1, b"why\0")),
    refusal(0),
    message(NEWADDR, address(bytes(4)), sequence=5) + end(DUMP_INTERRUPTED),
]


@st.composite
def damaged(draw: DrawFn) -> bytes:
    """Messages with a few bytes changed, a part cut out, or an end missing."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["byte", "byte", "length", "cut", "end"]))
        if what == "byte" and data:
            data[at] = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 16, 127, 128, 255]))
        elif what == "length" and len(data) >= 4:
            at = at & ~3
            data[at : at + 2] = struct.pack("=H", draw(st.integers(0, 40)))
        elif what == "cut":
            del data[at : at + draw(st.integers(1, 8))]
        elif what == "end":
            del data[at:]
    return bytes(data)


@given(st.lists(damaged() | st.binary(max_size=80), min_size=1, max_size=3), st.sampled_from(QUESTIONS))
@example([HEADER.pack(0, NEWLINK, 0, 1, 0)], QUESTIONS[2])  # a message of no length
@example([HEADER.pack(0, NEWLINK, 0, 9, 0)], QUESTIONS[0])
@example([HEADER.pack(3, NEWLINK, 0, 1, 0)], QUESTIONS[3])
@example([message(NEWROUTE, route(None, attribute(9, bytes(24)))) + end()], QUESTIONS[3])  # a gateway of no length
@example([message(ERROR, struct.pack("=i", -(1 << 31)))], QUESTIONS[4])
@example([message(ERROR, b"")], QUESTIONS[4])
@example([end()], QUESTIONS[0])
def test_no_bytes_hold_a_question_up(datagrams: list[bytes], question: Callable[[Netlink], Any]) -> None:
    with KernelsWord(*filter(None, datagrams)) as kernel, within(2), contextlib.suppress(OSError):
        question(kernel)


DAMAGED: dict[str, tuple[int, bytes]] = {
    "nothing": (0, b""),
    "less than a message": (0, b"x" * 15),
    "a message of no length": (0, HEADER.pack(0, NEWLINK, 0, 1, 0)),
    "no link": (0, refusal(0)),
    "a link without a name": (0, message(NEWLINK, LINK.pack(0, 0, 1, 7, 0, 0) + attribute(4, u32(1500)))),
    "a link without an MTU": (0, message(NEWLINK, LINK.pack(0, 0, 1, 7, 0, 0) + attribute(3, b"eth0\0"))),
    "a link of no index": (0, message(NEWLINK, link(index=0))),
    "a link of a negative index": (0, message(NEWLINK, link(index=-1))),
    "a kind that is no text": (0, message(NEWLINK, link(kind=b"\xff\0"))),
    "a short address": (2, message(NEWADDR, b"xxx") + end()),
    "an address without an address": (2, message(NEWADDR, ADDRESS.pack(2, 24, 0, 0, 7)) + end()),
    "flags of three bytes": (2, message(NEWADDR, ADDRESS.pack(2, 24, 0, 0, 7) + attribute(8, b"xxx")) + end()),
    "a short route": (3, message(NEWROUTE, b"xxx") + end()),
    "a table of three bytes": (3, message(NEWROUTE, route(None, attribute(15, b"xxx"))) + end()),
    "an error without a number": (4, message(ERROR, b"xx")),
    "an error out of range": (4, message(ERROR, struct.pack("=i", -(1 << 31)))),
}


@pytest.mark.parametrize(("question", "said"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_message_is_an_error_of_the_kernels(question: int, said: bytes) -> None:
    with KernelsWord(said) as kernel, within(2):
        if not said:
            kernel._socket.shutdown(socket.SHUT_RD)  # it says nothing, again and again
        with pytest.raises(KernelError) as caught:
            QUESTIONS[question](kernel)
    assert caught.value.errno == errno.EBADMSG


def test_an_address_of_another_family_is_passed_over() -> None:
    # An interface can have one of Phonet or MCTP: one byte.
    with KernelsWord(message(NEWADDR, address(b"\5")) + message(NEWADDR, address(bytes(4))) + end()) as kernel:
        assert [found.packed for found in kernel.addresses(7)] == [bytes(4)]


# What is sent


def test_attributes_and_numbers_are_as_the_kernel_wants_them() -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, kernels:
        client = Netlink()
        client.close()
        client._socket = ours
        kernels.send(refusal(0))
        client.add_route(
            7,
            socket.AF_INET,
            netlink.Route(bytes((10, 1, 0, 0)), 16, [bytes((10, 0, 0, 1))], mtu=1400, priority=0, table=1000, scope=0),
        )
        sent = kernels.recv(4096)
    length, kind, flags, sequence, port = HEADER.unpack_from(sent)
    assert (length, kind, sequence, port) == (len(sent), NEWROUTE, 1, 0)
    assert flags == 0x1 | 0x4 | 0x200 | 0x400  # request, acknowledge, exclusive, create
    assert sent[HEADER.size :] == ROUTE.pack(socket.AF_INET, 16, 0, 0, 252, 3, 0, 1, 0) + b"".join(
        [
            attribute(1, bytes((10, 1, 0, 0))),
            attribute(15, u32(1000)),
            attribute(4, u32(7)),
            attribute(5, bytes((10, 0, 0, 1))),
            attribute(6, u32(0)),
            attribute(8 | NESTED, attribute(2, u32(1400))),
        ]
    )


def test_the_longest_interface_name_is_that_of_the_kernel() -> None:
    header = "/usr/include/linux/if.h"
    if not os.path.exists(header):
        pytest.skip("the kernel's headers are not installed")
    with open(header, encoding="ascii") as text:
        size = re.search(r"define\s+IFNAMSIZ\s+(\d+)", text.read())
    assert size is not None
    assert int(size[1]) - 1 == netlink.IFNAME_BYTES  # a zero ends it
