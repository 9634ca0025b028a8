"""A machine in memory on which every command works: a kernel, an ovsdb-server with an ovs-vswitchd, an IPAM plugin.

It takes the place of everything by which the plugin reaches its surroundings, so a run takes a millisecond and nothing
on the real machine is changed, whatever a damaged input makes the plugin do. That the plugin is right is for the tests
with a real Open vSwitch to say; here only what it makes of wrong input is looked at.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from errno import EEXIST, EINVAL, ENODEV, ENOENT
from typing import Any
from unittest.mock import patch

import cni_ovs.plugin
from cni_ovs.plugin import (
    at_work,
    config,
    deadline,
    ethtool,
    inet,
    insertion,
    ipam,
    log,
    netlink,
    netns,
    ovsdb,
    protocol,
    vswitch,
)
from cni_ovs.plugin.errors import IPAM_FAILED, CniError

Json = dict[str, Any]
Reply = Callable[[Json, Json], bytes]  # from a request and its true answer, to what is said

COMMAND_NAMES = ("ADD", "CHECK", "DEL", "GC", "STATUS")
NETWORK, CONTAINER, IFNAME, SANDBOX, BRIDGE = "net", "pod", "eth0", "/run/netns/sandbox", "br-cni"
ENVIRONMENT = {
    "CNI_CONTAINERID": CONTAINER,
    "CNI_NETNS": SANDBOX,
    "CNI_IFNAME": IFNAME,
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web",
}
IPAM_ANSWER: Json = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.1.0.2/16", "gateway": "10.1.0.1"}, {"address": "fd00:1::2/64", "gateway": "fd00:1::1"}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd00:2::/64", "gw": "fd00:1::9", "mtu": 1400, "table": 1000}],
    "dns": {"nameservers": ["10.1.0.1"], "search": ["a.example"]},
}
_REFUSED = netns.Namespace._refused
_MOST_REQUESTS = 60  # after so many the connection is closed: a peer that answers for ever is kept off by the deadline
_LONGEST_VARIABLE = 131_072  # MAX_ARG_STRLEN of Linux
_FLAGS = 0x11043  # up, running, with a carrier


def load_everything() -> None:
    """Import every module of the plugin, as a command imports some of them only when it runs."""
    for module in pkgutil.walk_packages(cni_ovs.plugin.__path__, "cni_ovs.plugin."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


class Interfaces:
    """What the kernel knows of one namespace."""

    def __init__(self) -> None:
        """Nothing but lo."""
        self.links = {"lo": netlink.Link(1, "lo", bytes(6), 65536, _FLAGS, "")}
        self.other_names: dict[str, str] = {}
        self.addresses: list[tuple[int, netlink.Address]] = []
        self.routes: list[tuple[int, netlink.Route]] = []

    def copied(self) -> Interfaces:
        """The same."""
        other = copy.copy(self)
        other.links = {name: copy.copy(link) for name, link in self.links.items()}
        other.other_names = dict(self.other_names)
        other.addresses, other.routes = list(self.addresses), list(self.routes)
        return other


class Machine:
    """The state of everything, and what was asked of the IPAM plugin."""

    def __init__(self) -> None:
        """Open vSwitch has one bridge, with two ports of somebody else and a note of an earlier pod."""
        self.host, self.inside = Interfaces(), Interfaces()
        self.next_index = 10
        self.tables: dict[str, list[Json]] = {
            "Open_vSwitch": [
                {
                    "_uuid": "o",
                    "next_cfg": 7,
                    "cur_cfg": 7,
                    "external_ids": {},
                    "other_config": {},
                    "dpdk_initialized": True,
                    "iface_types": ["set", ["internal", "tap", "dpdkvhostuserclient"]],
                }
            ],
            "Bridge": [
                {
                    "_uuid": "b",
                    "name": BRIDGE,
                    "datapath_type": "netdev",
                    "datapath_id": "0000000000000001",
                    "ports": ["p", "s"],
                    "controller": ["set", []],
                    "fail_mode": ["set", []],
                    "external_ids": {"owner": "somebody", "cni-ovs-detaching-x": "{}"},
                }
            ],
            "Port": [
                _port("p", "patch", {"owner": "somebody", "contID": "x"}),
                _port("s", "cni0123456789ab", {"owner": "cni-ovs", "contNetwork": NETWORK, "contID": "gone"}),
            ],
            "Interface": [_interface("patch", type="patch"), _interface("cni0123456789ab", ofport=-1)],
            "QoS": [],
            "Queue": [],
        }
        self.tables["Port"][1]["external_ids"] |= {"contIface": "eth1", "contNetns": "/run/netns/gone"}
        self.delegated: list[str] = []

    def copied(self) -> Machine:
        """Another one in the same state; `copy.deepcopy` takes longer than most commands."""
        other = copy.copy(self)
        other.tables = _copied(self.tables)
        other.host, other.inside = self.host.copied(), self.inside.copied()
        other.delegated = []
        return other

    def veths(self) -> list[str]:
        """The names of all veths on the host."""
        return [link.name for link in self.host.links.values() if link.kind == "veth"]

    # ovsdb-server, as much of RFC 7047 as the plugin uses

    def answer(self, request: Json) -> Json:
        """The true answer to a request."""
        result: Any = {"locked": False} if request["method"] == "lock" else {}
        if request["method"] == "transact":
            before = _copied(self.tables)
            result = []
            for operation in request["params"][1:]:
                result.append(self._operate(operation))
                if "error" in result[-1]:
                    self.tables = before
                    break
            else:
                self._settle()
        return {"id": request["id"], "result": result, "error": None}

    def _operate(self, operation: Json) -> Json:
        rows = [row for row in self.tables[operation["table"]] if _meets(row, operation.get("where", []))]
        match operation["op"]:
            case "select":
                return {"rows": [{name: _written(name, row[name]) for name in operation["columns"]} for row in rows]}
            case "wait":
                [wanted] = operation["rows"]
                found = [{name: _written(name, row[name]) for name in wanted} for row in rows]
                same = len(found) == 1 and all(_sorted(found[0][name]) == _sorted(wanted[name]) for name in wanted)
                return {} if same == (operation["until"] == "==") else {"error": "timed out", "details": "not met"}
            case "insert":
                return self._insert(operation["table"], operation["row"], operation.get("uuid"))
            case "mutate":
                for row in rows:
                    _mutate(row, *operation["mutations"][0])
        return {"count": len(rows)}

    def _insert(self, table: str, row: Json, uuid: str | None) -> Json:
        if any(row["name"] == other["name"] for other in self.tables[table]):
            return {"error": "constraint violation", "details": "there is one"}
        if table == "Port":
            ids = dict(row["external_ids"][1])
            more = {key: row[key] for key in ("tag", "trunks", "cvlans", "vlan_mode") if key in row}
            self.tables[table].append(_port(uuid or "?", row["name"], ids) | more)
        else:
            ids = dict(row["external_ids"][1]) if "external_ids" in row else {}
            self.tables[table].append(_interface(row["name"], type=row["type"], external_ids=ids))
        return {"uuid": ["uuid", uuid or "i"]}

    def _settle(self) -> None:
        """What ovsdb-server does with rows that nobody refers to, and ovs-vswitchd with those that are new."""
        kept = {uuid for bridge in self.tables["Bridge"] for uuid in bridge["ports"]}
        self.tables["Port"] = [row for row in self.tables["Port"] if row["_uuid"] in kept]
        names = {row["name"] for row in self.tables["Port"]}
        for row in self.tables["Interface"]:
            if row["name"] not in names and row["type"] == "internal":
                self.host.links.pop(row["name"], None)
                self.inside.links.pop(row["name"], None)
        self.tables["Interface"] = [row for row in self.tables["Interface"] if row["name"] in names]
        for row in self.tables["Interface"]:
            if row["ofport"] == ["set", []]:
                row["ofport"] = 5
                if row["type"] == "internal":
                    self.add_link(self.host, row["name"], "tun")
        for row in self.tables["Open_vSwitch"]:
            row["cur_cfg"] = row["next_cfg"]

    def add_link(self, where: Interfaces, name: str, kind: str, mtu: int | None = None, mac: bytes = b"") -> None:
        """Make a device."""
        self.next_index += 1
        mac = mac or bytes((2, 0, 0, 0, 0, self.next_index))
        where.links[name] = netlink.Link(self.next_index, name, mac, mtu or 1500, _FLAGS, kind)


def _copied(tables: dict[str, list[Json]]) -> dict[str, list[Json]]:
    """The same rows. Their values are never changed, only replaced."""
    return {name: [dict(row) for row in rows] for name, rows in tables.items()}


def _port(uuid: str, name: str, external_ids: dict[str, str]) -> Json:
    empty: list[Any] = ["set", []]
    return {
        "_uuid": uuid,
        "name": name,
        "external_ids": external_ids,
        **dict.fromkeys(("tag", "trunks", "cvlans", "vlan_mode"), empty),
    }


def _interface(name: str, **columns: Any) -> Json:
    empty: list[Any] = ["set", []]
    state = {"ofport": empty, "error": empty, "ifindex": 0, "admin_state": "up"}
    return {"name": name, "type": "", "external_ids": {}, "options": {}, **state, **columns}


def _meets(row: Json, where: list[list[Any]]) -> bool:
    for name, function, value in where:
        if function == "includes":
            wanted = dict(value[1]).items() if value[0] == "map" else [uuid for _, uuid in value[1]]
            has = row[name].items() if value[0] == "map" else row[name]
            if not all(item in has for item in wanted):
                return False
        elif (_written(name, row[name]) == value) != (function == "=="):
            return False
    return True


def _mutate(row: Json, name: str, mutator: str, value: Any) -> None:
    if mutator == "+=":
        row[name] += value
    elif name == "ports":
        uuids = [uuid for _, uuid in value[1]]
        row[name] = [uuid for uuid in row[name] if uuid not in uuids] + (uuids if mutator == "insert" else [])
    elif mutator == "insert":
        row[name] = {**dict(value[1]), **row[name]}
    else:
        row[name] = {key: kept for key, kept in row[name].items() if key not in value[1]}


def _written(name: str, value: Any) -> Any:
    """A column's value in the notation of RFC 7047."""
    if name == "_uuid":
        return ["uuid", value]
    return (
        ["map", [list(pair) for pair in value.items()]]
        if name in ("external_ids", "options", "other_config")
        else value
    )


def _sorted(value: Any) -> Any:
    """The same for two equal maps."""
    return sorted(value[1]) if isinstance(value, list) and value[0] == "map" else value


class World:
    """The machine, and who says what to the plugin.

    Attributes:
        machine: its state.
        attached: whether the container was when it began.
        reply: what ovsdb-server says.
        piece: how many bytes of it arrive at once.
        ipam: what the IPAM plugin answers: its exit code, and what it prints.
        kernel: what is used for the kernel's netlink socket, where it is not the machine's kernel.
    """

    machine: Machine
    attached: bool
    reply: Reply
    piece: int
    ipam: tuple[int, bytes]
    kernel: type[netlink.Netlink] | None

    def __init__(self) -> None:
        """A machine on which a container is attached, and one on which it is not."""
        self._folder = tempfile.mkdtemp(prefix="cni-ovs-")
        with open(f"{self._folder}/ovs-vswitchd.1.ctl", "w"):
            pass
        self.config: Json = {
            "cniVersion": "1.1.0",
            "name": NETWORK,
            "type": "ovs",
            "bridge": BRIDGE,
            "socket_file": f"unix:{self._folder}/db.sock",
            "timeout": 2,
            "vlan": 5,
            "mtu": 1400,
            "external_ids": {"team": "shop"},
            "ipam": {"type": "static"},
            "dns": {"domain": "a"},
            "cni.dev/valid-attachments": [],
        }
        self.start(attached=False)
        code, text = self.handle("ADD", self.config)
        assert code == 0, text
        self.result: Json = json.loads(text)
        self._attached = self.machine
        code, text = self.handle("CHECK", {**self.config, "prevResult": self.result})
        assert code == 0, text

    def close(self) -> None:
        """Remove the folder."""
        os.unlink(f"{self._folder}/ovs-vswitchd.1.ctl")
        os.rmdir(self._folder)

    def start(self, *, attached: bool) -> None:
        """A machine as if nothing had happened, where everybody says what is right."""
        self.machine = self._attached.copied() if attached else Machine()
        self.attached = attached
        self.reply = lambda _, answer: json.dumps(answer).encode()
        self.piece = 1 << 18
        self.ipam = (0, json.dumps(IPAM_ANSWER).encode())
        self.kernel = None

    def handle(
        self, command: str, stdin: object | bytes, environment: Mapping[str, str] = ENVIRONMENT
    ) -> tuple[int, str]:
        """Carry out a command; its exit code, and what it prints."""
        raw = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
        return protocol.handle({"CNI_COMMAND": command, **environment}, lambda: raw, deadline.Deadline(10))


_worlds: list[World] = []  # the one that is installed


def world() -> World:
    """The world that is installed."""
    return _worlds[-1]


class Kernel:
    """As much of netlink.Netlink as the plugin uses, on the machine in memory; the host's, unless told otherwise."""

    observer = None  # asked for by the real one, which damaged answers go through

    def __new__(cls, watch: int = 0, here: Interfaces | None = None) -> Any:
        """Another kernel's, if there is one."""
        other = world().kernel
        return super().__new__(cls) if other is None else other()

    def __init__(self, watch: int = 0, here: Interfaces | None = None) -> None:
        """Opens nothing."""
        self._here = here or world().machine.host

    def fileno(self) -> int:
        """Something that is always readable."""
        return _readable()

    def drain(self) -> None:
        """There is nothing."""

    def close(self) -> None:
        """Nothing is open."""

    def link(self, which: str | int) -> netlink.Link | None:
        """As Netlink.link."""
        name = self._here.other_names.get(str(which), which)
        return next((link for link in self._here.links.values() if name in (link.name, link.index)), None)

    def request(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """What tc.py asks: it is done, and there is nothing to tell; an ifb device that it makes is not there."""
        return []

    def _known(self, which: str | int) -> netlink.Link:
        link = self.link(which)
        if link is None:
            raise netlink.KernelError(ENODEV, "No such device")
        return link

    def create_veth(
        self, name: str, peer: str, peer_netns: int, mtu: int | None, peer_mac: bytes | None, *, up: bool = True
    ) -> None:
        """As Netlink.create_veth."""
        machine = world().machine
        if name in machine.host.links or peer in machine.inside.links:
            raise netlink.KernelError(EEXIST, "File exists")
        machine.add_link(machine.host, name, "veth", mtu)
        machine.add_link(machine.inside, peer, "veth", mtu, peer_mac or b"")

    def delete_link(self, name: str) -> bool:
        """As Netlink.delete_link; the machine has one container only."""
        gone = self._here.links.pop(name, None)
        if gone is not None and gone.kind == "veth":
            inside = world().machine.inside
            inside.links = {key: link for key, link in inside.links.items() if link.kind != "veth"}
        return gone is not None

    def no_ipv6_address(self, name: str) -> None:
        """As Netlink.no_ipv6_address."""
        self._known(name)

    def set_up(self, which: str | int, *, promiscuous: bool = False) -> None:
        """As Netlink.set_up."""
        self._known(which)

    def set_mtu(self, index: int, mtu: int) -> None:
        """As Netlink.set_mtu."""
        self._known(index).mtu = mtu

    def set_mac(self, index: int, mac: bytes) -> None:
        """As Netlink.set_mac."""
        self._known(index).mac = mac

    def move(self, index: int, netns: int) -> None:
        """As Netlink.move."""
        link = self._known(index)
        del self._here.links[link.name]
        world().machine.inside.links[link.name] = link

    def add_altname(self, index: int, name: str) -> None:
        """As Netlink.add_altname."""
        self._here.other_names[name] = self._known(index).name

    def add_address(self, index: int, family: int, packed: bytes, prefix: int) -> None:
        """As Netlink.add_address."""
        inet.format_ip(packed)
        self._here.addresses.append((self._known(index).index, netlink.Address(packed, prefix, 0)))

    def addresses(self, index: int, family: int = 0) -> list[netlink.Address]:
        """As Netlink.addresses."""
        return [address for owner, address in self._here.addresses if owner == index]

    def add_route(self, index: int, family: int, route: netlink.Route) -> None:
        """As Netlink.add_route."""
        self._known(index)
        if any(len(gateway) != len(route.dst) for gateway in route.gateways):
            raise netlink.KernelError(EINVAL, "Invalid argument")
        self._here.routes.append((family, route))

    def routes(self, family: int) -> list[netlink.Route]:
        """As Netlink.routes."""
        return [route for of, route in self._here.routes if of == family]


class Sandbox:
    """As netns.Namespace, for the one container."""

    def close(self) -> None:
        """Nothing is open."""

    def __init__(self, path: str) -> None:
        """Only one path is a namespace."""
        self.path = path
        if os.path.normpath(path) != SANDBOX:
            raise _REFUSED(self, OSError(ENOENT, "No such file or directory"))  # type: ignore[arg-type]
        self.fd = 3
        self.netlink = self.open_netlink()

    def open_netlink(self, watch: int = 0) -> Any:
        """As Namespace.open_netlink."""
        return Kernel(watch, world().machine.inside)

    def __enter__(self) -> None:
        """Enters nothing."""

    def __exit__(self, *_: object) -> None:
        """Leaves nothing."""


class Wire:
    """A socket to ovsdb-server. What it says is there at once, and then it closes the connection."""

    def __init__(self, family: int, kind: int) -> None:
        """Connects to nobody."""
        self._said = b""
        self._requests = 0

    def setsockopt(self, *_: object) -> None:
        """There are no options."""

    def setblocking(self, blocking: bool) -> None:
        """It never blocks."""

    def connect(self, target: object) -> None:
        """It is connected."""

    def connect_ex(self, target: object) -> int:
        """Likewise."""
        return 0

    def fileno(self) -> int:
        """Something that is always readable."""
        return _readable()

    def close(self) -> None:
        """Nothing is open."""

    def send(self, data: bytes) -> int:
        """Take one message; what is no request is the answer to an echo."""
        message = json.loads(data)
        self._requests += 1
        if "method" in message and self._requests <= _MOST_REQUESTS:
            self._said += world().reply(message, world().machine.answer(message))
        return len(data)

    def recv(self, size: int) -> bytes:
        """The next part of what was said."""
        size = min(size, world().piece)
        part, self._said = self._said[:size], self._said[size:]
        return part


class Delegate(ipam.Delegate):
    """An IPAM plugin that has ended already."""

    def __init__(
        self,
        command: str,
        invocation: protocol.Invocation,
        config: config.NetworkConfig,
        instead: Mapping[str, str] | None = None,
        inherited: int | None = None,
    ) -> None:
        """Looks at the variables as the kernel does when it starts a program."""
        self.type, self.command = config.ipam_type or "", command
        for key, value in {**invocation.environment, **(instead or {})}.items():
            if "\0" in value:
                raise ValueError("embedded null byte")
            if len(os.fsencode(f"{key}={value}")) >= _LONGEST_VARIABLE:
                raise CniError(IPAM_FAILED, "IPAM plugin cannot be started: Argument list too long")
        world().machine.delegated.append(command)

    def finish(self, deadline: deadline.Deadline) -> Any:
        """What it answered."""
        return self._judge(*world().ipam, "last words")

    def end(self, deadline: deadline.Deadline | None = None) -> None:
        """It has ended."""


def _readable() -> int:
    return _NULL.fileno()


_NULL = open(os.devnull, "rb")  # noqa: SIM115 - as long as the process


def _is_gone(path: str) -> bool:
    return path.startswith("/") and path.endswith("gone")


@contextlib.contextmanager
def installed() -> Iterator[World]:
    """Puts a world into the place of the real one."""
    load_everything()
    real = {
        netlink.Netlink: Kernel,
        netns.Namespace: Sandbox,
        netns.is_own: lambda path: path == "/proc/self/ns/net",
        netns.is_gone: _is_gone,
        netns.write_sysctl: lambda key, value: None,
        netns.read_sysctl: lambda key: "1",
        ethtool.switch_off_transmit_checksum: lambda socket, interface: None,
        ipam.Delegate: Delegate,
        ipam.find: lambda name, path: f"{path}/{name}",
    }
    replaced: list[tuple[Any, str, object]] = [
        (ovsdb, "socket", Wire),
        (at_work, "begin", lambda port_name, deadline: None),
        (at_work, "wait_for_end", lambda port_name, deadline: None),
        (config, "_configure_log", lambda level, path: None),
        (log, "pass_on", lambda data: None),
        (vswitch, "_LOCK_SECONDS", 0.001),
        (insertion, "_random_uuid", lambda: "0f3c1d5e-0000-4000-8000-000000000001"),
    ]
    for info in pkgutil.walk_packages(cni_ovs.plugin.__path__, "cni_ovs.plugin."):
        module = importlib.import_module(info.name) if not info.name.endswith("__main__") else None
        for name, value in list(vars(module).items()) if module else ():
            if isinstance(value, type) or callable(value):
                replaced += [(module, name, new) for old, new in real.items() if old is value]
    with contextlib.ExitStack() as stack:
        for module, name, new in replaced:
            stack.enter_context(patch.object(module, name, new))
        made = object.__new__(World)
        _worlds.append(made)
        stack.callback(_worlds.remove, made)
        made.__init__()  # type: ignore[misc] # it asks for the world that is installed
        stack.callback(made.close)
        yield made
