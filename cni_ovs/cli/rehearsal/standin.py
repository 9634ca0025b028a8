"""What plays ovs-vswitchd where ADD is rehearsed: it makes devices for new rows, and listens where bridges do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from pyroute2 import IPRoute

from cni_ovs.plugin.attachment import SOCKET
from cni_ovs.plugin.devices import MOVED
from cni_ovs.plugin.openflow import FIELDS, MODIFICATION, Flow

OFPORT = 65279  # the highest that is possible, and the least likely
_HTB_ROOT = 0x10000
_HEADER = struct.Struct("!BBHI")
_HELLO, _ECHO_REQUEST, _ECHO_REPLY, _FLOW_MOD = 0, 2, 3, 14
_MULTIPART_REQUEST, _MULTIPART_REPLY, _BARRIER_REQUEST, _BARRIER_REPLY = 18, 19, 20, 21
_COMMANDS = ("add", "modify", "modify_strict", "delete", "delete_strict")
_LARGEST = 1 << 16  # bytes of a message


class Vswitchd:
    """Does what ovs-vswitchd would do with new rows, in the network namespace of the thread that calls it.

    Attributes:
        number: the OpenFlow number that it gives.
    """

    def __init__(self, number: int | None) -> None:
        self.number = number or OFPORT
        self._limited: str | None = None  # the port that has a queue of the kernel's
        self._sockets: list[socket.socket] = []

    def insert(self, operations: list[dict[str, Any]]) -> None:
        """Make the devices and sockets of the rows in a transaction."""
        inserts = [operation for operation in operations if operation["op"] == "insert"]
        rows = {
            table: [each["row"] for each in inserts if each["table"] == table] for table in ("Interface", "Port", "QoS")
        }
        for row in rows["Interface"]:
            if row["type"] in MOVED:
                _make_device(row["name"], row.get("mtu_request"))
        for row in rows["Port"]:
            recorded = dict(row["external_ids"][1])
            if SOCKET in recorded and any(interface["type"] == "dpdkvhostuser" for interface in rows["Interface"]):
                served = socket.socket(socket.AF_UNIX)
                served.bind(recorded[SOCKET])
                self._sockets.append(served)
        if any(row["type"] == "linux-htb" for row in rows["QoS"]):
            self._limited = rows["Port"][0]["name"]

    def take(self) -> None:
        """Make the queue of a port whose device is there."""
        if self._limited is None:
            return
        with IPRoute() as kernel, contextlib.suppress(IndexError):
            kernel.tc("add", "htb", kernel.link_lookup(ifname=self._limited)[0], _HTB_ROOT, default=1)


def _make_device(name: str, mtu: int | None) -> None:
    """A device for a port. A veth pair, since that can be made wherever the plugin works, and has a carrier."""
    with IPRoute() as kernel:
        more = {} if mtu is None else {"mtu": mtu}
        kernel.link("add", ifname=name, kind="veth", peer={"ifname": "other-end", **more}, **more)
        kernel.link("set", index=kernel.link_lookup(ifname="other-end")[0], state="up")


class Bridge:
    """Listens like the management socket of a bridge until the process ends, and takes every flow.

    Args:
        path: of the Unix socket.
        record: is told of every message that changes something.
    """

    def __init__(self, path: str, record: Callable[[bytes], None]) -> None:
        self._record = record
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(_LARGEST):
                received += data
                while (
                    len(received) >= _HEADER.size and len(received) >= _HEADER.unpack_from(received)[2] >= _HEADER.size
                ):
                    length = _HEADER.unpack_from(received)[2]
                    answer = self._answer(received[:length])
                    received = received[length:]
                    connection.sendall(answer)

    def _answer(self, message: bytes) -> bytes:
        version, kind, _, transaction = _HEADER.unpack_from(message)
        if kind == _FLOW_MOD:
            self._record(message)
            return b""
        body = message[_HEADER.size :]
        replies = {
            _HELLO: (_HELLO, body),
            _ECHO_REQUEST: (_ECHO_REPLY, body),
            _BARRIER_REQUEST: (_BARRIER_REPLY, b""),
            _MULTIPART_REQUEST: (_MULTIPART_REPLY, body[:2] + bytes(6)),  # of this kind there is nothing
        }
        if kind not in replies:
            return b""
        reply, content = replies[kind]
        return _HEADER.pack(version, reply, _HEADER.size + len(content), transaction) + content


def flow_text(bridge: str, message: bytes) -> str:
    """The `ovs-ofctl` command that sends what a flow-mod message of ours says."""
    cookie, mask, _, command, _, _, priority, *_ = MODIFICATION.unpack_from(message, _HEADER.size)
    start = _HEADER.size + MODIFICATION.size
    _, length = struct.unpack_from("!HH", message, start)
    fields, match = message[start + 4 : start + length], []
    names = {header: name for name, header in FIELDS.items()}
    while fields:
        size = fields[3]
        header = int.from_bytes(fields[:4], "big")
        match.append((names.get(header - size, f"field {header:#x}"), fields[4 : 4 + size]))
        fields = fields[4 + size :]
    if _COMMANDS[command] == "add":
        passes = len(message) > start + (length + 7 & ~7)
        flow = Flow(priority, passes, *(pair for pair in match if pair[0] != "reg15"))
        said = f"add-flow {bridge} '{flow.text(cookie)}'"
    else:
        which = [f"cookie={cookie:#x}/{'-1' if mask == (1 << 64) - 1 else hex(mask)}"]
        which += [f"{name}={int.from_bytes(value, 'big')}" for name, value in match]
        said = f"del-flows {bridge} '{','.join(which)}'"
    return f"ovs-ofctl -O OpenFlow13 {said.replace(f'in_port={OFPORT}', 'in_port=OFPORT')}"
