"""What a rehearsal sends and logs, in its order, in the form of JSON."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from typing import Any

from . import rtnetlink_text
from .gobetween import Operation, changes
from .standin import flow_text

_SIOCGSKNS, _SIOCGIFNAME = 0x894C, 0x8910  # linux/sockios.h


class Recorder:
    """Records what is sent, in its order.

    Attributes:
        records: objects that have a `kind`:
            transaction: `changes`, `operations`.
            netlink: `namespace`, `message` (its name), `flags` (NLM_F_…), `attributes`, `text`.
            sysctl: `namespace`, `key`, `value`, `text`.
            ethtool: `namespace`, `interface`, `text`.
            openflow: `bridge`, `message` (hexadecimal), `text`.
            file: `path`, `content`.
            log: `level`, `text`.
        namespaces: "host" or "container", by inode.
        settle: called before something is recorded that does not come from Open vSwitch's go-between, which is another
            thread: it returns when that has recorded all that was sent before.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.namespaces: dict[int, str] = {}
        self.settle: Callable[[], None] = _nothing

    def transaction(self, operations: list[Operation]) -> None:
        """The go-between tells of it, so there is nothing to wait for."""
        self.records.append({"kind": "transaction", "changes": changes(operations), "operations": operations})

    def flow(self, bridge: str, message: bytes) -> None:
        """A message to a bridge."""
        text = flow_text(bridge, message)
        self.records.append({"kind": "openflow", "bridge": bridge, "message": message.hex(), "text": text})

    def file(self, path: str, content: str) -> None:
        """A file that was written."""
        self.records.append({"kind": "file", "path": path, "content": content})

    def log(self, level: str, text: str) -> None:
        """A line of the log."""
        self._add("log", level=level, text=text)

    def netlink(self, fd: int, kind: int, flags: int, payload: bytes) -> None:
        """A request to the kernel, if it changes something."""
        if not rtnetlink_text.is_change(kind):
            return
        decoded = rtnetlink_text.decode(kind, flags, payload)
        named = rtnetlink_text.with_names(decoded, lambda index: _interface_name(fd, index), self._namespace_of)
        name = rtnetlink_text.name_of(kind)
        text = rtnetlink_text.text(name, named)
        self._add("netlink", namespace=self._of_socket(fd), message=name, flags=flags, attributes=named, text=text)

    def sysctl(self, key: str, value: str) -> None:
        """A setting below /proc/sys/net, in the namespace of this thread."""
        namespace = self.namespaces[os.stat("/proc/thread-self/ns/net").st_ino]
        text = f"sysctl -w net/{key}={value}"
        self._add("sysctl", namespace=namespace, key=key, value=value, text=text)

    def ethtool(self, fd: int, interface: str) -> None:
        """Transmit checksum offload is switched off."""
        self._add("ethtool", namespace=self._of_socket(fd), interface=interface, text=f"ethtool -K {interface} tx off")

    def _add(self, kind: str, **what: Any) -> None:
        self.settle()
        self.records.append({"kind": kind, **what})

    def _namespace_of(self, fd: int) -> str:
        return self.namespaces[os.fstat(fd).st_ino].upper()

    def _of_socket(self, fd: int) -> str:
        namespace = fcntl.ioctl(fd, _SIOCGSKNS)
        try:
            return self.namespaces[os.fstat(namespace).st_ino]
        finally:
            os.close(namespace)


def _nothing() -> None:
    """There is no go-between yet."""


def _interface_name(fd: int, index: int) -> str:
    """The name of an interface in the namespace of a socket."""
    try:
        answer = fcntl.ioctl(fd, _SIOCGIFNAME, struct.pack("16si20x", b"", index))
    except OSError:
        return f"interface {index}"
    return answer[:16].rstrip(b"\0").decode(errors="replace")
