"""How much passes between two ends: by iperf3 where it is there, else by transfer.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import causes, programs, transfer
from .causes import Cause
from .ends import End
from .programs import Tick

_START_SECONDS = 3.0
_END_SECONDS = 8.0  # after the time of the measurement
_LISTENING = "0A"  # of /proc/net/tcp, linux/net/tcp_states.h
_LOSS_WORTH_A_WORD = 5.0  # percent


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        streams: how many at once.
        seconds: for each measurement.
        bandwidth: of UDP, in bit/s for each stream.
        port: where the receiver's side listens; 0 for any.
    """

    streams: int = 1
    seconds: int = 3
    bandwidth: int = 100_000_000
    port: int = 0


@dataclass(frozen=True)
class Rate:
    """What was measured in one direction.

    Attributes:
        protocol: "tcp" or "udp".
        family: "ipv4" or "ipv6".
        sender, receiver: the ends.
        method: "iperf3", or "sockets" of our own.
        bits_per_second: that arrived; None if nothing did.
        retransmits: of TCP; None where it is not known.
        lost: of UDP, percent.
        jitter: of UDP, milliseconds.
        cpu: the machine's share that was busy meanwhile, percent, whoever used it.
        cause: what is wrong; None if nothing.
    """

    protocol: str
    family: str
    sender: End
    receiver: End
    method: str
    bits_per_second: float | None
    retransmits: int | None = None
    lost: float | None = None
    jitter: float | None = None
    cpu: float | None = None
    cause: Cause | None = None


def measure(sender: End, receiver: End, protocol: str, family: str, options: Options, tick: Tick) -> Rate:
    """Measure one direction; errors are the cause in the answer."""
    before = _machine()
    by_iperf = shutil.which("iperf3") is not None
    way = (protocol, family, sender, receiver, "iperf3" if by_iperf else "sockets")
    try:
        values = (_by_iperf if by_iperf else _by_sockets)(sender, receiver, protocol, family, options, tick)
    except transfer.StalledError:
        return Rate(*way, None, cause=causes.of_no_tcp(sender, receiver, None))
    except OSError as error:
        return Rate(*way, None, cause=Cause(f"{protocol.upper()} cannot be measured: {error}", "see -p PORT"))
    cause = None
    if (values.get("lost") or 0.0) > _LOSS_WORTH_A_WORD:
        cause = Cause(f"{values['lost']:.1f} % of the UDP packets are lost", "less may pass than was sent: see -b")
    return Rate(*way, **values, cpu=_busy(before, _machine()), cause=cause)


def _by_sockets(sender: End, receiver: End, protocol: str, family: str, options: Options, tick: Tick) -> dict[str, Any]:
    common = (sender, receiver, family, options.port, options.streams, options.seconds)
    if protocol == "tcp":
        moved = transfer.tcp(*common, tick)
        return {"bits_per_second": 8 * moved.received / moved.seconds, "retransmits": moved.retransmits}
    moved = transfer.udp(*common, options.bandwidth, tick)
    lost = 100 * max(0.0, 1 - moved.received_packets / moved.sent_packets)
    return {"bits_per_second": 8 * moved.received / moved.seconds, "lost": lost, "jitter": moved.jitter}


def _by_iperf(sender: End, receiver: End, protocol: str, family: str, options: Options, tick: Tick) -> dict[str, Any]:
    """A server at the receiver, for one client, and the client at the sender; both end before this returns."""
    port = options.port or transfer.free_port(receiver, family)
    source, destination = sender.address(family) or "", receiver.address(family) or ""
    words = [
        "--connect-timeout",
        str(int(_START_SECONDS * 1000)),
        "-t",
        str(options.seconds),
        "-P",
        str(options.streams),
    ]
    if protocol == "udp":
        words += ["-u", "-b", str(options.bandwidth)]
    server_words = ("iperf3", "-s", "-1", "-B", destination, "-p", str(port))
    client_words = ("iperf3", "-c", destination, "-B", source, "-p", str(port), "-J", *words)
    with programs.running(receiver.netns, *server_words) as server:
        _wait_until_listening(server, port, tick)
        with programs.running(sender.netns, *client_words) as client:
            if not client.wait(options.seconds + _START_SECONDS + _END_SECONDS, tick):
                raise transfer.StalledError(connected=False)
            text, complaint = client.output, client.complaint
    try:
        return _read(json.loads(text), protocol)
    except (ValueError, LookupError, TypeError) as error:
        raise OSError(complaint or "iperf3 says nothing that is understood") from error


def _wait_until_listening(server: programs.Program, port: int, tick: Tick) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if server.exit_code is not None:
            said = (server.complaint or server.output.strip()[-200:]).removeprefix("iperf3: error - ")
            raise OSError(f"iperf3 cannot listen at port {port}: {said}")
        if _listens(server.pid, port):
            return
        server.wait(0.02, tick)
    raise OSError("iperf3 does not begin to listen")


def _listens(pid: int, port: int) -> bool:
    """Whether a process listens at a port (proc(5), /proc/net/tcp): somebody else may, in the same namespace."""
    wanted = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):  # it has ended
            open_files = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                is_meant = fields[1].endswith(wanted) and fields[3] == _LISTENING
                if is_meant and f"socket:[{fields[9]}]" in open_files:
                    return True
    return False


def _read(answer: Any, protocol: str) -> dict[str, Any]:
    """What iperf3 -J says.

    Raises:
        OSError: an error.
        LookupError, TypeError: it is not what iperf3 says.
    """
    if "error" in answer:
        raise OSError(str(answer["error"])[:200])
    end = answer["end"]
    if protocol == "tcp":
        retransmits = end["sum_sent"].get("retransmits")
        return {"bits_per_second": float(end["sum_received"]["bits_per_second"]), "retransmits": retransmits}
    total = end["sum"]
    lost = float(total["lost_percent"])
    received = float(total["bits_per_second"]) * (1 - lost / 100)  # the former is what was sent
    return {"bits_per_second": received, "lost": lost, "jitter": float(total["jitter_ms"])}


def _machine() -> tuple[int, int]:
    """Ticks that all processors were busy, and all ticks, since the machine has started (proc(5), /proc/stat)."""
    values = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(values) - values[3] - values[4], sum(values)


def _busy(before: tuple[int, int], after: tuple[int, int]) -> float | None:
    total = after[1] - before[1]
    return 100 * (after[0] - before[0]) / total if total else None
