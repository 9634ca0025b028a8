"""The harnesses: one for each way by which something comes into the plugin from outside.

Each takes any bytes. Whatever they are: a command succeeds and prints what it should, or tells an error in CNI's form,
whose code is not that of an unexpected one; an ADD that fails leaves no device and no address; and what is no command
raises only what its callers know. (build/fuzz sees to it that each ends soon.)
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from cni_ovs.plugin import inet, jsontext, netlink
from cni_ovs.plugin.attachment import port_name
from cni_ovs.plugin.errors import UNEXPECTED
from tests.fuzz.source import Source, damaged
from tests.fuzz.world import BRIDGE, COMMAND_NAMES, ENVIRONMENT, IFNAME, IPAM_ANSWER, NETWORK, Json, World, world
from tests.support import standard_json

VERSIONS = ("1.1.0", "1.0.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0")
_KEYS = {"cniVersion", "code", "msg"}


class Harness:
    """One way in.

    Attributes:
        name: for the command line.
        about: what is fed.
        files: those of the plugin that read it.
        run: feeds some bytes; raises AssertionError, or whatever the plugin should not have let out.
        seeds: bytes to begin with.
    """

    def __init__(
        self, name: str, about: str, files: str, run: Callable[[bytes], None], seeds: Callable[[], Iterator[bytes]]
    ) -> None:
        """All of it."""
        self.name = name
        self.about = about
        self.files = tuple(f"{file}.py" for file in files.split())
        self.run = run
        self.seeds = seeds


def judge(command: str, outcome: tuple[int, str], *, passed_on: int | None = None) -> None:
    """What a command may print; `passed_on` is the code of the IPAM plugin's own error, if there is one."""
    code, text = outcome
    assert text == "" or (text.endswith("\n") and "\n" not in text[:-1]), outcome
    if code == 0:
        if command in ("ADD", "VERSION"):
            printed = json.loads(text)
            assert printed["cniVersion"] in VERSIONS, outcome
        else:
            assert text == "", outcome
        return
    error = json.loads(text)
    assert code == 1 and set(error) in (_KEYS, _KEYS | {"details"}), outcome
    assert error["cniVersion"] in VERSIONS, outcome
    assert type(error["code"]) is int and 0 < error["code"] < 1 << 32, outcome
    assert error["msg"] and isinstance(error["msg"], str) and isinstance(error.get("details", ""), str), outcome
    assert error["code"] != UNEXPECTED or passed_on == UNEXPECTED, outcome
    if command == "ADD" and not world().attached:
        assert world().machine.veths() == [], outcome


def _begin(source: Source, version: str | None = None) -> tuple[World, str, Json]:
    """A machine, a command and a configuration: the first choices of most harnesses."""
    here = world()
    command = source.pick(COMMAND_NAMES)
    here.start(attached=command != "ADD")
    config = {**here.config, "prevResult": here.result} if command == "CHECK" else dict(here.config)
    choices = source.below(64)
    if choices & 3 == 1:
        config["interface_type"] = "internal"
        if command != "ADD":
            here.start(attached=False)
    if choices & 12 == 4:
        del config["ipam"]
    config["cniVersion"] = version or VERSIONS[choices >> 4 if choices >> 4 < 3 and command != "CHECK" else 0]
    if choices >> 4 == 3:
        here.piece = 1 + source.below(64)
    return here, command, config


def _starts(*more: bytes, all_choices: bool = False) -> Iterator[bytes]:
    """Beginnings that `_begin` reads, with each of these behind it."""
    for command in range(5):
        for choices in (0, 1, 4, 16, 48) if all_choices else (0,):
            for rest in more:
                yield bytes((command, choices)) + (b"\x20" if choices == 48 else b"") + rest


def _changes() -> list[bytes]:
    """Some ways to damage something, as `damaged` reads them."""
    return [b""] + [bytes((1, 3 * n, n % 8, 3 * n, n)) for n in range(1, 80, 3)]


# JSON


def _json(data: bytes) -> None:
    """What we make of a text is what `json` makes of it, but for what is no JSON or is nested too deeply."""
    ours, reason = None, ""
    try:
        ours = (jsontext.decode(data),)
    except ValueError as error:
        reason = str(error)
    if "nested too deeply" in reason:
        assert data.count(b"[") + data.count(b"{") > 200
        return
    standard = _standard(data)
    assert repr(ours) == repr(standard), (ours, reason, standard)
    if ours:
        assert jsontext.encode(ours[0]) == json.dumps(ours[0])
        first, end = jsontext.decode_first(data.decode() + "]")
        assert repr((first,)) == repr(ours) and not data.decode()[end:].strip(" \t\n\r"), data


def _standard(data: bytes) -> tuple[Any] | None:
    """The value as `json` reads it; None if it is none."""
    try:
        return (standard_json.decode(data),)
    except (ValueError, RecursionError):
        return None


def _json_seeds() -> Iterator[bytes]:
    yield json.dumps(world().config, indent=1).encode()
    yield json.dumps(world().result, ensure_ascii=False).encode()
    yield from (b"[1e400]", b"-0", b"1.5E+3", b"NaN", b"[" * 500 + b"]" * 500, b"9" * 5000, b"\xff", b"\xef\xbb\xbf{}")
    yield from (b'{"a":{"b":[true,false,null]},"a":1}', '"ü𝄞\x7f"'.encode(), b' [ ] x "')
    yield from (b'"\\ud834\\udd1e\\ud800\\u0000"', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"')


# The network configuration


def _stdin(data: bytes) -> None:
    source = Source(data)
    here, command, config = _begin(source)
    raw = source.rest() if source.below(2) else json.dumps(damaged(config, source)).encode()
    judge(command, here.handle(command, raw))


def _stdin_seeds() -> Iterator[bytes]:
    yield from _starts(b"\0", all_choices=True)
    yield from _starts(*(b"\0" + change for change in _changes()))
    yield from _starts(b"\1" + json.dumps(world().config).encode())
    yield from _starts(b"\1" + json.dumps({**world().config, "prevResult": world().result}).encode())
    more = {"runtimeConfig": {"mac": "02:00:00:00:00:05"}, "args": {"cni": {"mac": "x", "ovnPort": ""}}, "VLAN": 0}
    more |= {"link_state_check_retries": 5, "link_state_check_interval": 1, "log_level": "debug", "brigde": "x"}
    yield from _starts(b"\1" + json.dumps({"name": NETWORK, "cniVersion": "1.1.0", "bridge": BRIDGE, **more}).encode())
    limits = {"ingressRate": 1000000, "ingressBurst": 8, "egressRate": 1000000}
    for keys in (
        {"bandwidth": limits, "runtimeConfig": {"bandwidth": {"egressRate": 5000}}},
        {"macspoofchk": True, "ipspoofchk": True},
        {"interface_type": "tap", "bandwidth": limits, "macspoofchk": False},
        {"interface_type": "dpdkvhostuserclient", "sharedDir": "/tmp", "runtimeConfig": {"CNIDeviceInfoFile": "/x/y"}},
        {"deviceID": "0000:03:00.5", "mtu": 9000},
    ):
        yield from _starts(b"\1" + json.dumps({**world().config, **keys}).encode())
    kept = {"cni.dev/valid-attachments": [{"containerID": "pod", "ifname": IFNAME}]}
    yield b"\3\0\1" + json.dumps({**world().config, **kept}).encode()


# Environment variables


def _environment(data: bytes) -> None:
    source = Source(data)
    here, command, config = _begin(source)
    environment: dict[str, str] = {}
    values = [
        *ENVIRONMENT.values(),
        *COMMAND_NAMES,
        "VERSION",
        "MAC=02:00:00:00:00:01;x=y",
        "OvnPort=x",
        "x" * 5000,
        "..",
        "a/b",
    ]
    for name in (*ENVIRONMENT, "CNI_NETNS_OVERRIDE", "CNI_COMMAND"):
        match source.below(8):
            case 1:
                continue
            case 2 | 3:
                value = source.text()
            case 4:
                value = ENVIRONMENT.get(name, "") + source.text()
            case 5:
                value = source.pick(values)
            case _:
                value = ENVIRONMENT.get(name, command if name == "CNI_COMMAND" else "")
        environment[name] = value.replace("\0", "")  # the kernel ends a variable there
    if environment.get("CNI_COMMAND"):  # main.py says what it is, where there is none
        judge(environment["CNI_COMMAND"], here.handle(command, config, environment))


def _environment_seeds() -> Iterator[bytes]:
    yield from _starts(b"", all_choices=True)
    for place in range(7):
        for text in (b"\xff", b"a/b", b"..", b"eth%d", b"\n", b"MAC=x", b";;=", b"K8S_POD_UID=\xc3\xbc;x"):
            for command in range(5):
                yield bytes((command, 0)) + bytes(place) + bytes((2, len(text))) + text
                yield bytes((command, 0)) + bytes(place) + bytes((4, len(text))) + text
        yield from _starts(*(bytes(place) + choice for choice in (b"\5\5", b"\5\x0b", b"\5\x0d", b"\1")))


# The result of the plugin before us, or of ADD


def _previous(data: bytes) -> None:
    source = Source(data)
    version = source.pick(VERSIONS)
    here, command, config = _begin(source, version)
    command = "CHECK" if command == "CHECK" else "ADD"
    here.start(attached=command == "CHECK")
    result: Any = _in_version(here.result, version)
    config["prevResult"] = result
    raw = json.dumps(config)
    if source.below(2):
        # As bytes of its own, whatever they are.
        part = source.rest().decode("utf-8", "surrogateescape")
        raw = json.dumps({**config, "prevResult": "@"}).replace('"@"', part, 1)
    else:
        raw = json.dumps({**config, "prevResult": damaged(result, source)})
    judge(command, here.handle(command, raw.encode("utf-8", "surrogateescape")))


def _in_version(result: Json, version: str) -> Json:
    if version >= "0.3.0":
        return {**result, "cniVersion": version}
    first = result["ips"][0]
    return {
        "cniVersion": version,
        "ip4": {"ip": first["address"], "gateway": first["gateway"], "routes": [{"dst": "10.9.0.0/16"}]},
        "dns": result["dns"],
    }


def _previous_seeds() -> Iterator[bytes]:
    for version in range(len(VERSIONS)):
        for command in (0, 1):
            for change in _changes():
                yield bytes((version, command, 0, 0)) + change
            yield bytes((version, command, 0, 1)) + json.dumps(world().result).encode()
            yield bytes((version, command, 4, 1)) + json.dumps(_in_version(world().result, "0.2.0")).encode()


# What ovsdb-server says


def _ovsdb(data: bytes) -> None:
    source = Source(data)
    here, command, config = _begin(source)
    _fill(here, source)

    def reply(request: Json, answer: Json) -> bytes:
        true = json.dumps(answer).encode()
        match source.below(12):
            case 1:
                return source.take(source.below(200))
            case 2:
                return true[: source.below(len(true) + 1)]
            case 3:
                return json.dumps({"id": request["id"], "result": source.pick(_NO_RESULTS), "error": None}).encode()
            case 4:
                return json.dumps({"id": request["id"], "result": None, "error": damaged("syntax", source)}).encode()
            case 5:
                other = {"id": "echo", "method": source.pick(("echo", "locked")), "params": ["x"]}
                return json.dumps(damaged(other, source)).encode() + b"\n" + true
            case 6:
                return json.dumps({**answer, "result": damaged([{"error": "timed out"}], source)}).encode()
            case 7 | 8 | 9:
                return json.dumps({**answer, "result": damaged(answer["result"], source)}).encode()
            case 10:
                return json.dumps(damaged(answer, source)).encode()
        return true

    here.reply = reply
    outcome = here.handle(command, config)
    if not config.get("ipam"):
        assert here.machine.delegated == []
    judge(command, outcome)


_NO_RESULTS: tuple[Any, ...] = (None, [], {}, 1, "x", [None], [[]], [{}] * 9, [{"rows": []}] * 9, [{"rows": [{}]}] * 9)


NOTE = "cni-ovs-detaching-"
_ODD_TEXTS = ("", "..", "a/b", "x\ny", "/gone", "/\0gone", "\ud800", "9" * 5000, "/" * 200_000, "ü", "{}")


def _fill(here: World, source: Source) -> None:
    """Rows of somebody else, or that look like ours, with odd texts: their form is right."""
    tables = here.machine.tables
    for _ in range(source.below(3)):
        row = source.pick([*tables["Bridge"], *tables["Port"]])
        changed = damaged(row["external_ids"], source)
        ids = {key: str(value) for key, value in changed.items()} if isinstance(changed, dict) else {}
        key = source.pick(["contID", "contIface", "contNetns", "contStale", "owner", NOTE])
        value = source.pick(_ODD_TEXTS)
        if key == NOTE:
            # JSON within a string, which may have in it what the string cannot.
            note = {"owner": "cni-ovs", "contNetwork": NETWORK, "contID": "c", "contIface": "eth0", "contNetns": "/x"}
            value = json.dumps(damaged({**note, source.pick(sorted(note)): value}, source))
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):  # else any name will do
                said = json.loads(value)
                key += port_name(said["contNetwork"], said["contID"], said["contIface"])
        # ovsdb-server knows no NUL, and no halves of characters.
        row["external_ids"] = {
            name.replace("\0", ""): text.replace("\0", "").encode("utf-8", "ignore").decode()
            for name, text in {**ids, key: value}.items()
        }
    if source.below(4) == 1:
        tables["Bridge"][0]["datapath_id"] = ["set", []]
    if source.below(4) == 1:
        del tables["Bridge"][0]
    if source.below(8) == 1:
        tables["Open_vSwitch"].clear()


def _ovsdb_seeds() -> Iterator[bytes]:
    yield from _starts(b"", all_choices=True)
    for command in range(5):
        for kind in range(1, 12):
            for turn in range(4):
                for change in _changes()[:2]:
                    yield bytes((command, 0)) + bytes(4 + turn) + bytes((kind,)) + change
        for change in _changes()[::3]:
            for row in range(3):
                yield bytes((command, 0, 1, row)) + change + b"\5\0" + change
                yield bytes((command, 0, 1, row)) + change + b"\2\3"
    yield from _starts(b"\0\1", b"\0\0\1", b"\0\0\0\1")
    for command in range(5):
        for text in range(len(_ODD_TEXTS)):
            for key in range(5):
                yield bytes((command, 0, 1, 2, 0, key, text))
                yield bytes((command, 0, 1, 0, 0, 5, text, key))


# What the kernel says


_Netlink = netlink.Netlink  # the real one: there is another in its place when a world is installed


class _Said:
    """As much of a netlink socket as is used. It says one datagram after the other, and then that it has lost some."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sequence = 0
        self._kind = 0

    def setblocking(self, blocking: bool) -> None:
        """It never blocks."""

    def close(self) -> None:
        """Nothing is open."""

    def send(self, request: bytes) -> int:
        self._kind, _, self._sequence = struct.unpack_from("=HHI", request, 4)
        return len(request)

    def recv(self, size: int) -> bytes:
        source = self._source
        if not source:
            raise OSError(105, "No buffer space available")
        match source.below(8):
            case 0:
                return source.take(source.below(256))
            case 1:
                return _message(2, struct.pack("=i", -source.pick((0, 0, 17, 19, 22, 95, 1 << 31))), 0, self._sequence)
            case 2:
                return _message(2, source.take(source.below(40)), 0x200, self._sequence)
            case 3:
                return _message(3, b"", source.pick((2, 0x12)), self._sequence)
            case 4:
                return _message(16, source.take(source.below(256)), 0, self._sequence)
        # One that is right but for a few bytes, and the end of a dump.
        kind = {22: 20, 26: 24}.get(self._kind, 16)
        body = bytearray(source.pick(_BODIES[kind]))
        for _ in range(source.below(4)):
            at = source.below(len(body))
            body[at] = source.below(256)
        data = _message(kind, bytes(body[: len(body) - source.below(64) % 40]), 2, self._sequence)
        return data if kind == 16 and source.below(2) == 0 else data + _message(3, bytes(4), 2, self._sequence)


def _message(kind: int, body: bytes, flags: int, sequence: int) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _bodies() -> dict[int, list[bytes]]:
    """Links, addresses and routes as the kernel describes them (rtnetlink(7)), by type of message."""
    link = struct.pack("=BBHiII", 0, 0, 1, 12, 0x11043, 0) + _attribute(4, struct.pack("=I", 1400))
    veth = _attribute(1, bytes((2, 0, 0, 0, 0, 12))) + _attribute(18 | 0x8000, _attribute(1, b"veth\0"))
    addresses = [
        struct.pack("=BBBBI", family, prefix, 0, 0, 12) + _attribute(1, packed) + _attribute(8, bytes(4))
        for family, prefix, packed in ((2, 16, bytes((10, 1, 0, 2))), (10, 64, bytes((0xFD, *bytes(14), 2))))
    ]
    route = struct.pack("=BBBBBBBBI", 2, 16, 0, 0, 254, 3, 0, 1, 0) + _attribute(1, bytes((10, 9, 0, 0)))
    hop = struct.pack("=HBBi", 16, 0, 0, 12) + _attribute(5, bytes((10, 1, 0, 1)))
    return {
        16: [link + _attribute(3, name + b"\0") + veth for name in (b"eth0", b"cni6da45df56548", b"\xff")],
        20: addresses,
        24: [route, route + _attribute(9, hop + hop), route + _attribute(15, struct.pack("=I", 1000))],
    }


_BODIES = _bodies()


def _netlink(data: bytes) -> None:
    source = Source(data)
    asked = source.below(8)
    if asked > 3:
        return _netlink_command(source)
    kernel = _Netlink.__new__(_Netlink)
    kernel._sequence = 0
    kernel._socket = _Said(source)  # type: ignore[assignment] # as much of a socket as is used
    questions: list[Callable[[], object]] = [
        lambda: kernel.link("eth0"),
        lambda: [inet.format_ip(address.packed) for address in kernel.addresses(12)],
        lambda: kernel.routes(socket.AF_INET),
        lambda: kernel.set_mtu(12, 1400),
    ]
    with contextlib.suppress(OSError):
        questions[asked]()
    return None


def _netlink_command(source: Source) -> None:
    """A whole command, whose kernel says odd things."""
    here, command, config = _begin(source)

    class Odd(_Netlink):
        def __init__(self) -> None:
            self._sequence = 0
            self._socket = _Said(source)  # type: ignore[assignment]

        def fileno(self) -> int:
            return _NULL

    here.kernel = Odd
    outcome = here.handle(command, config)
    here.machine.host.links.clear()  # it is not the one that was used
    judge(command, outcome)


_NULL = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def _netlink_seeds() -> Iterator[bytes]:
    right = b"\7\0\0\0\0"
    for asked in range(4):
        yield bytes((asked,)) + right
        for which in range(3):
            for at in range(0, 60, 4):
                yield bytes((asked, 7, which, 1, at, 0xFF, 0, 0))
                yield bytes((asked, 7, which, 0, at, 0))
        for kind in range(5):
            yield bytes((asked, kind, 2)) + right
    for start in _starts(b"", all_choices=True):
        yield b"\4" + start + right * 20
        yield b"\4" + start + b"\1\0" * 4 + right * 20
        yield b"\4" + start + b"\1\0\1\0" + b"\7\1\0\0\0" * 4 + b"\1\0" * 10 + right * 20


# What the IPAM plugin answers


def _ipam(data: bytes) -> None:
    source = Source(data)
    here, command, config = _begin(source)
    config.setdefault("ipam", {"type": "static"})
    status = source.pick((0, 0, 1, -9))
    answer = IPAM_ANSWER if status == 0 else {"cniVersion": "1.0.0", "code": 11, "msg": "full", "details": "all of it"}
    if source.below(4) == 1:
        answer = _in_version(here.result, "0.2.0")
    printed = source.rest() if source.below(2) else json.dumps(damaged(answer, source)).encode()
    here.ipam = status, printed
    outcome = here.handle(command, config)
    judge(command, outcome, passed_on=_code(printed))
    if command == "ADD" and outcome[0] and "ADD" in here.machine.delegated:
        assert here.machine.delegated[-1] == "DEL", "the address was not returned"


def _code(printed: bytes) -> Any:
    try:
        return json.loads(printed)["code"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _ipam_seeds() -> Iterator[bytes]:
    for status in (0, 2, 3):
        for change in _changes():
            yield from _starts(bytes((status, 0, 0)) + change)
        yield from _starts(bytes((status, 1, 0)), bytes((status, 0, 1)) + json.dumps(IPAM_ANSWER).encode())
        yield from _starts(bytes((status, 0, 1)) + b'{"code": 999, "msg": "x", "details": {"a": []}}')


HARNESSES = {
    harness.name: harness
    for harness in (
        Harness("json", "any text, compared with the standard library's json", "jsontext", _json, _json_seeds),
        Harness(
            "stdin",
            "the network configuration",
            "config forms jsontext protocol spelling unknown_keys",
            _stdin,
            _stdin_seeds,
        ),
        Harness("environment", "the CNI_ variables", "attachment protocol", _environment, _environment_seeds),
        Harness("previous", "prevResult, of ADD and of CHECK", "check inet result", _previous, _previous_seeds),
        Harness(
            "ovsdb",
            "what ovsdb-server answers, and what is in its rows",
            "add check delete detaching gc insertion ovsdb stale status vswitch",
            _ovsdb,
            _ovsdb_seeds,
        ),
        Harness("netlink", "what the kernel answers", "check netlink veth", _netlink, _netlink_seeds),
        Harness("ipam", "what the IPAM plugin answers", "addresses ipam result", _ipam, _ipam_seeds),
    )
}
