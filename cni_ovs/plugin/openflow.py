"""OpenFlow 1.3 to one bridge, over its management socket: flows of a cookie are added, looked at and removed.

The program ovs-ofctl does that too, but is often not where the plugin runs (with Open vSwitch in a container, say), and
takes as long as half an attachment. Formats: OpenFlow Switch Specification 1.3.5, and Open vSwitch's extensions
(include/openflow/nicira-ext.h, ovs-fields(7), ovs-actions(7)).
"""

from __future__ import annotations

import _struct
import posix
from _socket import AF_UNIX, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from errno import ECONNREFUSED, ENOENT

from .deadline import READABLE, WRITABLE
from .errors import FLOWS_REFUSED, TRY_AGAIN_LATER, CniError
from .inet import format_ip, format_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .deadline import Deadline

    Match = tuple[tuple[str, bytes], ...]

_VERSION = 4
_HELLO, _ERROR, _FLOW_MOD = 0, 1, 14
_MULTIPART_REQUEST, _MULTIPART_REPLY, _BARRIER_REQUEST, _BARRIER_REPLY = 18, 19, 20, 21
_HELLO_FAILED = 0
_NOTHING = -1  # no kind of message
_ADD, _DELETE = 0, 3
_STATS_FLOW, _MORE = 1, 1
_ALL_TABLES, _ANY, _NO_BUFFER = 0xFF, 0xFFFFFFFF, 0xFFFFFFFF
_OXM, _APPLY_ACTIONS = 1, 4
_WHOLE_COOKIE = (1 << 64) - 1
_LARGEST_ANSWER = 16 << 20

_HEADER = _struct.Struct("!BBHI")
MODIFICATION = _struct.Struct("!QQBBHHHIIIHxx")
_REQUEST = _struct.Struct("!HHxxxxBxxxIIxxxxQQ")
_STATS = _struct.Struct("!HBxIIHHHHxxxxQQQ")
# Registers are Open vSwitch's own; a packet comes with zero in each.
_REGISTER = 15
_SEEN = 0x636E69  # what a packet has there that has been looked at
# OXM headers, class and field, of what is matched; the names are those of ovs-fields(7).
FIELDS = {
    "in_port": 0x80000000 | 0 << 9,
    "eth_src": 0x80000000 | 4 << 9,
    "eth_type": 0x80000000 | 5 << 9,
    "ip_proto": 0x80000000 | 10 << 9,
    "ip_src": 0x80000000 | 11 << 9,
    "udp_src": 0x80000000 | 15 << 9,
    "udp_dst": 0x80000000 | 16 << 9,
    "arp_op": 0x80000000 | 21 << 9,
    "arp_spa": 0x80000000 | 22 << 9,
    "arp_sha": 0x80000000 | 24 << 9,
    "ipv6_src": 0x80000000 | 26 << 9,
    "icmpv6_type": 0x80000000 | 29 << 9,
    "nd_target": 0x80000000 | 31 << 9,
    "nd_sll": 0x80000000 | 32 << 9,
    "nd_tll": 0x80000000 | 33 << 9,
    "reg15": 0x00010000 | _REGISTER << 9,
}
_MACS, _ADDRESSES = ("eth_src", "arp_sha", "nd_sll", "nd_tll"), ("ip_src", "arp_spa", "ipv6_src", "nd_target")


class Flow:
    """What becomes of packets that nobody has looked at yet: they are dropped, or go through the tables once more.

    A packet that passes so meets all flows that others have put there, but none of ours a second time.

    Args:
        priority: above those of others.
        passes: whether the packets pass.
        match: pairs of a field and its value, in network byte order; a field that others depend on comes first.
    """

    __slots__ = ("match", "passes", "priority")

    def __init__(self, priority: int, passes: bool, *match: tuple[str, bytes]) -> None:
        self.priority = priority
        self.passes = passes
        self.match: Match = (("reg15", bytes(4)), *match)

    def text(self, cookie: int) -> str:
        """The same in the notation of `ovs-ofctl add-flow`."""
        parts = [f"cookie={cookie:#x}", f"priority={self.priority}"]
        parts += [f"{name}={_shown(name, value)}" for name, value in self.match]
        action = f"load:{_SEEN:#x}->reg{_REGISTER}[],resubmit(,0)" if self.passes else "drop"
        return f"{','.join(parts)},actions={action}"

    def key(self) -> tuple[int, bool, frozenset[bytes]]:
        """What is the same for the same flow, whatever the order of its fields."""
        return self.priority, self.passes, frozenset(_field(name, value) for name, value in self.match)

    def packed(self) -> bytes:
        """Match and instructions of a flow-mod message."""
        fields = b"".join(_field(name, value) for name, value in self.match)
        instructions = b""
        if self.passes:
            instructions = _struct.pack("!HHxxxx", _APPLY_ACTIONS, 8 + len(_PASS)) + _PASS
        return _packed_match(fields) + instructions


def _field(name: str, value: bytes) -> bytes:
    return (FIELDS[name] | len(value)).to_bytes(4, "big") + value


def _packed_match(fields: bytes) -> bytes:
    length = 4 + len(fields)
    return _struct.pack("!HH", _OXM, length) + fields + bytes(-length % 8)


def _shown(name: str, value: bytes) -> str:
    if name in _MACS:
        return format_mac(value)
    if name in _ADDRESSES:
        return format_ip(value)
    number = int.from_bytes(value, "big")
    return f"{number:#06x}" if name == "eth_type" else str(number)


# Note that the packet was looked at (NXAST_REG_LOAD), and let it begin anew (NXAST_RESUBMIT_TABLE).
_NICIRA = 0x2320
_PASS = _struct.pack("!HHIHHIQ", 0xFFFF, 24, _NICIRA, 7, 31, FIELDS["reg15"] | 4, _SEEN) + _struct.pack(
    "!HHIHHBxxx", 0xFFFF, 16, _NICIRA, 14, 0xFFF8, 0
)


class Switch:
    """A connection to a bridge.

    Args:
        path: of its management socket.
        name: of the bridge, for messages.
        deadline: for everything.

    Raises:
        CniError: TRY_AGAIN_LATER, when nobody answers there. So do all methods; and FLOWS_REFUSED, when the bridge
            refuses, or sends what cannot be understood.
    """

    def __init__(self, path: str, name: str, deadline: Deadline) -> None:
        self._name = name
        self._deadline = deadline
        self._transaction = 0
        self._received = b""
        self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            # As in ovsdb.py: connecting is bounded so, and only so.
            left = max(deadline.remaining(), 0.001)
            self._socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _struct.pack("ll", int(left), int(left % 1 * 1e6)))
            self._socket.connect(path)
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            kind = UnreachableError if error.errno in (None, ENOENT, ECONNREFUSED) else CniError
            raise kind(
                TRY_AGAIN_LATER,
                f"bridge {name!r} cannot be reached at {path}: {error.strerror or error}",
                "ovs-vswitchd makes this socket; its folder must be that of ovsdb-server's socket",
            ) from error
        # Only this version, so there is nothing to negotiate, and requests may follow at once.
        self._send(_HELLO, _struct.pack("!HHI", 1, 8, 1 << _VERSION))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def add(self, flows: list[Flow], cookie: int) -> None:
        """Add flows, or replace equal ones."""
        for flow in flows:
            self._send(_FLOW_MOD, _modification(cookie, 0, _ADD, 0, flow.priority) + flow.packed())
        self._barrier()

    def remove_of_port(self, number: int, cookie: int, mask: int) -> None:
        """Remove the flows for what comes from a port, whose cookies are like this where the mask has ones."""
        match = _packed_match(_field("in_port", number.to_bytes(4, "big")))
        self._send(_FLOW_MOD, _modification(cookie, mask, _DELETE, _ALL_TABLES, 0) + match)

    def remove(self, cookie: int) -> None:
        """Remove every flow that has this cookie."""
        self._send(_FLOW_MOD, _modification(cookie, _WHOLE_COOKIE, _DELETE, _ALL_TABLES, 0) + _packed_match(b""))
        self._barrier()

    def keys(self, cookie: int, mask: int = _WHOLE_COOKIE) -> dict[int, set[tuple[int, bool, frozenset[bytes]]]]:
        """The keys (Flow.key) of the flows whose cookies are like this where the mask has ones, by cookie."""
        request = _REQUEST.pack(_STATS_FLOW, 0, _ALL_TABLES, _ANY, _ANY, cookie, mask) + _packed_match(b"")
        self._send(_MULTIPART_REQUEST, request)
        found: dict[int, set[tuple[int, bool, frozenset[bytes]]]] = {}
        more = True
        while more:
            body = self._receive(_MULTIPART_REPLY)
            try:
                more = bool(_struct.unpack_from("!HH", body)[1] & _MORE)
                for owner, key in _flows(body[8:]):
                    found.setdefault(owner, set()).add(key)
            except _struct.error as error:  # type: ignore[attr-defined] # typeshed
                raise self._refused("sent a message that cannot be understood") from error
        return found

    def _barrier(self) -> None:
        """Wait until everything that was sent is done."""
        self._send(_BARRIER_REQUEST, b"")
        self._receive(_BARRIER_REPLY)

    def _send(self, kind: int, body: bytes) -> None:
        self._transaction += 1
        data = _HEADER.pack(_VERSION, kind, _HEADER.size + len(body), self._transaction) + body
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                self._deadline.wait(f"sending to bridge {self._name!r}", (self._socket.fileno(), WRITABLE))
            except OSError:
                self._receive(_NOTHING)  # it has hung up, and may have said why

    def _receive(self, wanted: int) -> bytes:
        """The body of the next message of this kind. An error that is none of the last request's is one of ours too."""
        while True:
            while len(self._received) < _HEADER.size or len(self._received) < self._length():
                self._read()
            version, kind, length, _ = _HEADER.unpack_from(self._received)
            body, self._received = self._received[_HEADER.size : length], self._received[length:]
            if kind == _ERROR and len(body) >= 4:
                reason, code = _struct.unpack_from("!HH", body)
                if reason == _HELLO_FAILED:
                    raise self._refused("does not speak OpenFlow 1.3", _PROTOCOLS.format(self._name))
                raise self._refused(f"refused a flow: OpenFlow error {reason}, {code}")
            if kind == wanted and version == _VERSION:
                return body

    def _length(self) -> int:
        """How long the message is that begins what was received."""
        length = int.from_bytes(self._received[2:4], "big")
        if length < _HEADER.size:
            raise self._refused("sent a message without a length")
        return length

    def _read(self) -> None:
        self._deadline.wait(f"waiting for bridge {self._name!r}", (self._socket.fileno(), READABLE))
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._broken(posix.strerror(error.errno or 0)) from error
        self._received += data
        if not data:
            raise self._broken("it closed the connection")
        if len(self._received) > _LARGEST_ANSWER:
            raise self._broken("it sent more than any answer has")

    def _broken(self, reason: str) -> CniError:
        return CniError(TRY_AGAIN_LATER, f"the connection to bridge {self._name!r} broke: {reason}")

    def _refused(self, what: str, hint: str = "") -> CniError:
        return CniError(FLOWS_REFUSED, f"bridge {self._name!r} {what}", hint)


class UnreachableError(CniError):
    """Nobody listens: ovs-vswitchd, or the bridge, is not there, and no flow is either."""


_PROTOCOLS = "ovs-vsctl add bridge {} protocols OpenFlow13"


def _modification(cookie: int, mask: int, command: int, table: int, priority: int) -> bytes:
    return MODIFICATION.pack(cookie, mask, table, command, 0, 0, priority, _NO_BUFFER, _ANY, _ANY, 0)


def _flows(data: bytes) -> list[tuple[int, tuple[int, bool, frozenset[bytes]]]]:
    """Cookie and key of each flow in a reply."""
    found = []
    while data:
        length, _, _, _, priority, _, _, _, cookie, _, _ = _STATS.unpack_from(data)
        _, matched = _struct.unpack_from("!HH", data, _STATS.size)
        if matched < 4 or not _STATS.size + matched <= length <= len(data):
            raise _struct.error  # type: ignore[attr-defined] # typeshed
        fields = data[_STATS.size + 4 : _STATS.size + matched]
        instructions = data[_STATS.size + (matched + 7 & ~7) : length]
        each = []
        while fields:
            size = 4 + fields[3] if len(fields) > 3 else 4
            each.append(fields[:size])
            fields = fields[size:]
        found.append((cookie, (priority, bool(instructions), frozenset(each))))
        data = data[length:]
    return found
