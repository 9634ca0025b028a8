"""Ethernet frames: sent as they are, with or without VLAN tags, and received as tcpdump sees them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import netns

from tests.support.namespace import Namespace
from tests.support.processes import wait_for

DOT1Q, DOT1AD = 0x8100, 0x88A8
EXPERIMENTAL = 0x88B5  # IEEE 802, for local experiments: nobody else sends it
BROADCAST = b"\xff" * 6
_GLOBAL_HEADER, _RECORD_HEADER = 24, 16  # bytes, of a file of tcpdump (pcap-savefile(5))
_END = b"end"


@dataclass(frozen=True)
class Tag:
    """A VLAN tag."""

    vlan: int
    protocol: int = DOT1Q

    def __repr__(self) -> str:
        return f"{self.vlan}" if self.protocol == DOT1Q else f"{self.protocol:#x}:{self.vlan}"


@dataclass(frozen=True)
class Frame:
    """A broadcast frame with a text, and its tags from the outside in."""

    text: str
    tags: tuple[Tag, ...] = ()

    def encode(self, source: str) -> bytes:
        """The bytes, as from the device with this MAC."""
        tags = b"".join(struct.pack("!HH", tag.protocol, tag.vlan) for tag in self.tags)
        head = BROADCAST + bytes.fromhex(source.replace(":", "")) + tags
        return (head + struct.pack("!H", EXPERIMENTAL) + self.text.encode()).ljust(60, b"\0")

    @classmethod
    def decode(cls, data: bytes) -> Frame | None:
        """What these bytes are; None if they are something else."""
        tags, at = [], 12
        while True:
            (protocol,) = struct.unpack_from("!H", data, at)
            if protocol not in (DOT1Q, DOT1AD):
                break
            tags.append(Tag(struct.unpack_from("!H", data, at + 2)[0] & 0xFFF, protocol))
            at += 4
        return cls(data[at + 2 :].rstrip(b"\0").decode(), tuple(tags)) if protocol == EXPERIMENTAL else None


def send(sandbox: Namespace, device: str, *frames: Frame) -> None:
    """Sends frames out of a device."""
    mac = sandbox.link(device).mac
    put_on_the_wire(sandbox, device, *(frame.encode(mac) for frame in frames))


def put_on_the_wire(sandbox: Namespace, device: str, *frames: bytes) -> None:
    """Sends these bytes out of a device, one frame each."""
    netns.pushns(sandbox.name)
    try:
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    finally:
        netns.popns()
    with sender:
        sender.bind((device, 0))
        for frame in frames:
            sender.send(frame)


class Capture:
    """What a device has received."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def frames(self) -> list[Frame]:
        """The frames with a text so far."""
        return [frame for data in self.raw() if (frame := Frame.decode(data))]

    def raw(self) -> list[bytes]:
        """All frames so far."""
        data, at, found = self._file.read_bytes(), _GLOBAL_HEADER, []
        while at + _RECORD_HEADER <= len(data):
            (length,) = struct.unpack_from("=I", data, at + 8)
            at += _RECORD_HEADER
            if at + length <= len(data):
                found.append(data[at : at + length])
            at += length
        return found


@contextlib.contextmanager
def captured(sandbox: Namespace, device: str, folder: Path) -> Iterator[Capture]:
    """While the body runs, tcpdump writes what the device receives."""
    file, said = folder / f"{sandbox.name}.pcap", folder / f"{sandbox.name}.tcpdump"
    # Of whole packets only 32 would fit into what tcpdump has for those that it has not written yet.
    words: list[str | Path] = [
        "tcpdump",
        "-s",
        "2000",
        "-Z",
        "root",
        "-i",
        device,
        "-Q",
        "in",
        "-U",
        "--immediate-mode",
        "-w",
        file,
    ]
    with said.open("wb") as writing:
        process = sandbox.start(*words, stdout=writing)
        try:
            wait_for("tcpdump listens", lambda: b"listening on" in said.read_bytes())
            yield Capture(file)
        finally:
            process.terminate()
            process.wait(timeout=5)
