"""What the kernel says of queueing disciplines, right, damaged or arbitrary."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.plugin import tc
from cni_ovs.plugin.netlink import KernelError
from tests.unit.test_netlink_messages import NESTED, KernelsWord, attribute, end, message, refusal

NEWQDISC, ROOT, CLSACT = 36, 0xFFFFFFFF, 0xFFFFFFF1


def qdisc(
    kind: str = "tbf", *, index: int = 7, parent: int = ROOT, rate: int = 1_250_000, wide: int | None = None
) -> bytes:
    """A message's body; `wide` is the rate of 64 bits, if there is one."""
    options = attribute(1, struct.pack("=BBHhHI", 0, 1, 0, 0, 0, rate) + bytes(24))
    if wide is not None:
        options += attribute(4, struct.pack("=Q", wide))
    body = struct.pack("=BxxxiIII", 0, index, 0x10000, parent, 2)
    return body + attribute(1, kind.encode() + b"\0") + attribute(2 | NESTED, options)


def test_the_rate_of_a_device_is_read() -> None:
    others = qdisc("noqueue"), qdisc(index=8, rate=5), qdisc(parent=CLSACT, rate=6)
    with KernelsWord(*(message(NEWQDISC, body) for body in (*others[1:], qdisc())), end()) as kernel:
        assert tc.shaped_rate(kernel, 7) == 1_250_000
    with KernelsWord(message(NEWQDISC, others[0]), end()) as kernel:
        assert tc.shaped_rate(kernel, 7) is None
    with KernelsWord(end()) as kernel:
        assert tc.shaped_rate(kernel, 7) is None


def test_the_kind_of_a_device_is_read() -> None:
    with KernelsWord(message(NEWQDISC, qdisc("htb")), end()) as kernel:
        assert tc.root_kind(kernel, 7) == "htb"
    with KernelsWord(message(NEWQDISC, qdisc("htb", index=8)), end()) as kernel:
        assert tc.root_kind(kernel, 7) is None


def test_a_rate_beyond_32_bits_is_read() -> None:
    with KernelsWord(message(NEWQDISC, qdisc(rate=0xFFFFFFFF, wide=125_000_000_000)), end()) as kernel:
        assert tc.shaped_rate(kernel, 7) == 125_000_000_000


def test_a_refusal_is_raised() -> None:
    with KernelsWord(refusal(2)) as kernel, pytest.raises(KernelError):
        tc.shape(kernel, 7, 1000, 1000, 2000)
    with KernelsWord(refusal(2)) as kernel, pytest.raises(KernelError):
        tc.redirect_received(kernel, 7, 8)


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_an_answer_or_an_error(body: bytes, plausible: bool) -> None:
    said = qdisc()[:40] + body if plausible else body
    with KernelsWord(message(NEWQDISC, said), end()) as kernel, contextlib.suppress(KernelError):
        tc.shaped_rate(kernel, 7)
