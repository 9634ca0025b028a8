"""What a command sends: to Open vSwitch, recorded by a relay, and to the kernel, recorded by strace."""

from __future__ import annotations

import contextlib
import json
import re
import select
import shutil
import socket
import struct
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2.netlink.rtnl import RTM_VALUES
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from tests.support.namespace import Namespace
from tests.support.openvswitch import PrivateOpenVSwitch

Json = dict[str, Any]


class Relay:
    """A folder with the sockets of an Open vSwitch, each of which passes on and keeps what is sent to it."""

    def __init__(self, openvswitch: PrivateOpenVSwitch, bridge: str) -> None:
        """Relays the database's socket and the management socket of a bridge."""
        self.folder = Path(tempfile.mkdtemp(prefix="cniovs-"))
        self.remote = f"unix:{self.folder}/db.sock"
        self.sent: dict[str, list[bytes]] = {}
        self._bridge = f"{bridge}.mgmt"
        self._closed = False
        self._open = threading.Event()
        self._open.set()
        for name in ("db.sock", self._bridge):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.folder / name))
            listener.listen()
            threading.Thread(target=self._accept, args=(listener, name, openvswitch.folder / name), daemon=True).start()
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.sent = {"db.sock": [], self._bridge: []}

    def hold(self) -> None:
        """Pass nothing on until `go_on`: each side sees a peer that is there and silent."""
        self._open.clear()

    def go_on(self) -> None:
        """Pass on what came meanwhile, and what comes."""
        self._open.set()

    def close(self) -> None:
        """Listen no more, and remove the folder."""
        self._closed = True
        self.go_on()
        for name in self.sent:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(self.folder / name))
        shutil.rmtree(self.folder)

    def transactions(self) -> list[list[Json]]:
        """The operations of each transaction that was sent."""
        text, found, decoder = b"".join(self.sent["db.sock"]).decode(), [], json.JSONDecoder()
        while text:
            message, end = decoder.raw_decode(text)
            text = text[end:].lstrip()
            if message.get("method") == "transact":
                found.append(message["params"][1:])
        return found

    def flows(self) -> list[bytes]:
        """Every flow-mod message that was sent to the bridge, without the number of its transaction."""
        data, found = b"".join(self.sent[self._bridge]), []
        while data:
            kind, length = struct.unpack_from("!xBH", data)
            if kind == 14:
                found.append(data[8:length])
            data = data[length:]
        return found

    def _accept(self, listener: socket.socket, name: str, target: Path) -> None:
        with listener:
            while True:
                here = listener.accept()[0]
                if self._closed:
                    here.close()
                    return
                threading.Thread(target=self._pass_on, args=(here, name, target), daemon=True).start()

    def _pass_on(self, here: socket.socket, name: str, target: Path) -> None:
        with here, socket.socket(socket.AF_UNIX) as there, contextlib.suppress(OSError):  # they hang up when they like
            there.connect(str(target))
            while True:
                for ready in select.select([here, there], [], [])[0]:
                    self._open.wait()
                    data = ready.recv(1 << 18)
                    if not data:
                        return
                    if ready is here:
                        self.sent[name].append(data)
                    (there if ready is here else here).sendall(data)


# The kernel


@dataclass(frozen=True)
class Sent:
    """A change that was sent to the kernel: in which namespace, what kind of message, and what is in it."""

    namespace: str
    what: str
    content: Any


STRACE = ("strace", "-yy", "-s", "4096", "-e", "trace=sendto,write,ioctl,setns,socket", "-e", "write=all")
_LINE = re.compile(r"^(\w+)\((.*)\) += (.*)$")
_DUMP = re.compile(r"^ \| [0-9a-f]+  ((?:[0-9a-f]{2} {1,2})+)")


def kernel_changes(trace: str, sandbox: Namespace) -> list[Sent]:
    """The changes in what `STRACE` wrote of a command that works on a container's namespace."""
    found: list[Sent] = []
    inside, sockets, lines = "host", dict[str, str](), trace.splitlines()
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if not match:
            continue
        call, arguments, returned = match.groups()
        if returned.startswith("? ERESTART"):  # others have the kernel's lock; strace shows each try
            continue
        fd = arguments.partition("<")[0]
        if call == "setns":
            inside = "container" if str(sandbox.inode) in arguments or sandbox.path in arguments else "host"
        elif call == "socket" and "AF_NETLINK" in arguments:
            sockets[returned.partition("<")[0]] = inside
        elif call == "ioctl" and "SIOCETHTOOL" in arguments:
            found.append(Sent(sockets[fd], "ethtool", None))  # strace does not show of which interface
        elif call == "write" and "</proc/sys/net/" in arguments:
            key, value = re.findall(r'</proc/sys/net/([^>]+)>, "([^"]*)"', arguments)[0]
            found.append(Sent(inside, "sysctl", (key, value)))
        elif call == "sendto" and "<NETLINK:" in arguments:
            dump = ""
            for following in lines[number + 1 :]:
                if not (match := _DUMP.match(following)):
                    break
                dump += match[1]
            message = _decode(bytes.fromhex(dump))
            if message is not None:
                found.append(Sent(sockets[fd], *message))
    return found


def _decode(data: bytes) -> tuple[str, Any] | None:
    """The kind of a message to rtnetlink, and what it has; None if it only asks."""
    kind = struct.unpack_from("=IH", data)[1]
    if kind & 3 == 2:
        return None
    message = MarshalRtnl.msg_map[kind](data)
    message.decode()
    return RTM_VALUES[kind], comparable(_plain(message))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        own = {key: _plain(item) for key, item in value.items() if key not in ("attrs", "header", "event", "state")}
        return own | {name: _plain(item) for name, item in value.get("attrs", ())}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# What pyroute2 makes of padding, and what it does not know.
_UNCLEAR = ("__align", "pad1", "pad2", "ifi_type", "UNKNOWN", "TCA_TBF_RATE64", "TCA_TBF_BURST")


def comparable(message: Any) -> Any:
    """The same without what is another number in each namespace or process; indexes may have become names."""
    if isinstance(message, list):
        return [comparable(item) for item in message]
    if not isinstance(message, dict):
        return message
    found: Json = {}
    for key, value in message.items():
        if key in ("index", "interface"):
            found |= {"index": "some"} if value else {}
        elif key in ("RTA_OIF", "oif", "ifindex", "IFLA_NET_NS_FD"):
            found[key] = "some"
        elif key not in _UNCLEAR:
            found[key] = comparable(value)
    return found
