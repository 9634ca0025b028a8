"""Network namespaces with names, programs run in them, and what pyroute2 reads in them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute, netns

from tests.support.processes import run

PREFIX = "cniovs-"
_FOLDER = Path("/run/netns")
_IFF_UP = 1
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True)
class Link:
    """A network device as the kernel reports it."""

    name: str
    index: int
    mtu: int
    mac: str
    up: bool
    kind: str | None  # "veth", "tun", …; None for a device without a kind, as lo
    altnames: tuple[str, ...]


@dataclass(frozen=True)
class Address:
    """An address of a device; `address` in the form 10.1.0.2/24."""

    device: str
    address: str
    family: int
    scope: int
    tentative: bool
    duplicate: bool


@dataclass(frozen=True)
class Route:
    """A route; `destination` is always a prefix (0.0.0.0/0, ::/0 for the default ones).

    `gateways` holds one gateway, the gateways of all hops of a multipath route, or nothing.
    """

    destination: str
    gateways: tuple[str, ...]
    device: str | None
    table: int
    scope: int
    priority: int | None
    mtu: int | None
    advmss: int | None
    protocol: int


needs_link_watch = pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 8), reason="the kernel cannot be asked to act on one link"
)


def _pair(name: str) -> str:
    return f"link add {name} up type veth peer name {name}p\n"


def _asked(name: str) -> str:
    return f"link show dev {name}\nlink show dev {name}p\n"


class Namespace:
    """A network namespace under /run/netns with a random name that starts with `cniovs-`."""

    def __init__(self, purpose: str = "sandbox") -> None:
        """Creates it, with lo up."""
        self.name = f"{PREFIX}{purpose}-{secrets.token_hex(4)}"
        self.path = str(_FOLDER / self.name)
        run(["ip", "netns", "add", self.name])
        self.inode = os.stat(self.path).st_ino
        run(["ip", "-n", self.name, "link", "set", "lo", "up"])
        self._started: list[subprocess.Popen[str]] = []
        self.initial_devices = frozenset(self.links())  # lo, and with some kernels tunl0, sit0, …

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    @property
    def exists(self) -> bool:
        """True until it is deleted."""
        return os.path.exists(self.path)

    def delete(self) -> None:
        """Ends every process in it and takes its name away; the kernel then removes it and its devices, soon."""
        if not self.exists:
            return
        for pid in self.processes():
            _kill(pid)
        for process in self._started:
            process.communicate(timeout=5)
        run(["ip", "netns", "delete", self.name])

    def processes(self) -> set[int]:
        """The process ids of all live processes whose network namespace this is."""
        return processes_in([self])

    # Programs

    def command(self, *argv: str | Path) -> list[str]:
        """The command line that runs `argv` here. nsenter does exec, so the process id is that of the program."""
        return ["/usr/bin/nsenter", f"--net={self.path}", "--", *(str(word) for word in argv)]

    def run(
        self,
        *argv: str | Path,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 30,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program here to its end; see `processes.run`."""
        return run(self.command(*argv), stdin=stdin, env=env, timeout=timeout, check=check)

    def rename(self, device: str, name: str) -> None:
        """Give an interface another name; before Linux 6.2 the kernel does that only while it is down."""
        self.ip("link", "set", device, "down")
        self.ip("link", "set", device, "name", name)
        self.ip("link", "set", name, "up")

    def start(self, *argv: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Starts a program here and returns at once. It is ended when the namespace is deleted."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.STDOUT)
        process = subprocess.Popen(self.command(*argv), text=True, **options)
        self._started.append(process)
        return process

    def ip(self, *words: str) -> str:
        """Runs the `ip` command on this namespace, as `ns.ip("link", "set", "net1", "down")`."""
        return run(["ip", "-n", self.name, *words]).stdout

    def add_pairs(self, names: Sequence[str]) -> None:
        """Adds many veth pairs at once, the ends with these names up, the others (with a p behind it) down.

        The kernel acts on each of them at once, because it is asked for it; see `burst`.
        """
        commands = (f"{_pair(name)}{_asked(name)}" for name in names)
        self.run("ip", "-batch", "-", stdin="".join(commands), timeout=60)

    @contextlib.contextmanager
    def burst(self) -> Iterator[Callable[[], bool]]:
        """While the body runs, the kernel's link watch is busy with hundreds of new links here.

        It takes seconds for them, and as long drops what is sent over links, anywhere on the machine, that come up
        later. Those that it is asked for (Linux 6.8) do not wait. What is given tells whether it is busy still.
        """
        names = [f"many{number}" for number in range(400)]

        def is_busy() -> bool:
            links = json.loads(self.ip("-json", "link", "show"))
            # So those are called on which it has acted, in their order.
            return any(link["ifname"] in names and link["operstate"] != "LOWERLAYERDOWN" for link in links)

        self.run("ip", "-batch", "-", stdin="".join(map(_pair, names)), timeout=60)
        try:
            yield is_busy
        finally:  # other tests that run now shall not have to wait
            self.run("ip", "-batch", "-", stdin="".join(map(_asked, names)), timeout=60)

    def sysctl(self, key: str, value: str | int | None = None) -> str:
        """Reads, or with `value` writes, a setting below /proc/sys, as `net/ipv6/conf/default/disable_ipv6`."""
        path = f"/proc/sys/{key}"
        if value is not None:
            self.run("sh", "-c", f"echo {value} > {path}")
        return self.run("cat", path).stdout.strip()

    def pings(self, address: str, *, count: int = 1, timeout: int = 5) -> bool:
        """True when `address` answers at least one of up to `timeout` echo requests, sent one a second at most."""
        words = ["ping", "-n", "-q", "-i", "0.2", "-c", str(count), "-w", str(timeout), address]
        return self.run(*words, check=False).returncode == 0

    # Reading the kernel

    def _kernel(self) -> IPRoute:
        """A netlink socket of this namespace: the calling thread is in it while the socket is made.

        (pyroute2's own NetNS starts a process for that: 10 ms instead of 1, and we do it several times in each test.)
        """
        netns.pushns(self.name)
        try:
            return IPRoute()
        finally:
            netns.popns()

    def links(self) -> dict[str, Link]:
        """Every device here, by name."""
        with self._kernel() as kernel:
            messages = list(kernel.get_links())
        links = {}
        for message in messages:
            info = message.get_attr("IFLA_LINKINFO")
            properties = message.get_attr("IFLA_PROP_LIST")
            link = Link(
                name=message.get_attr("IFLA_IFNAME"),
                index=message["index"],
                mtu=message.get_attr("IFLA_MTU"),
                mac=message.get_attr("IFLA_ADDRESS"),
                up=bool(message["flags"] & _IFF_UP),
                kind=info.get_attr("IFLA_INFO_KIND") if info else None,
                altnames=tuple(
                    value for key, value in (properties["attrs"] if properties else ()) if key == "IFLA_ALT_IFNAME"
                ),
            )
            links[link.name] = link
        return links

    def link(self, name: str) -> Link:
        """The device with this name or alternative name; AssertionError when there is none."""
        links = self.links()
        for link in links.values():
            if name == link.name or name in link.altnames:
                return link
        raise AssertionError(f"{self}: no device {name}; there are {sorted(links)}")

    def addresses(self, name: str, *, link_local: bool = False) -> list[Address]:
        """The addresses of a device; IPv6 link-local ones, which the kernel makes, only on demand."""
        link = self.link(name)
        with self._kernel() as kernel:
            messages = [message for message in kernel.get_addr() if message["index"] == link.index]
        found = []
        for message in messages:
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            if text.startswith("fe80:") and not link_local:
                continue
            found.append(
                Address(
                    device=link.name,
                    address=f"{text}/{message['prefixlen']}",
                    family=message["family"],
                    scope=message["scope"],
                    tentative=bool(flags & _IFA_F_TENTATIVE),
                    duplicate=bool(flags & _IFA_F_DADFAILED),
                )
            )
        return found

    def address_texts(self, name: str) -> set[str]:
        """The addresses of a device in the form 10.1.0.2/24, without link-local ones."""
        return {address.address for address in self.addresses(name)}

    def routes(self, *, table: int = 254) -> list[Route]:
        """The unicast routes of one table, without multicast and link-local ones that the kernel makes."""
        names = {link.index: link.name for link in self.links().values()}
        found = []
        with self._kernel() as kernel:
            for family in _FAMILIES:
                for message in kernel.get_routes(family=family):
                    route = _route(message, names)
                    if message["type"] == 1 and route.table == table and not route.destination.startswith("fe80:"):
                        found.append(route)
        return found

    def route(self, destination: str, *, table: int = 254) -> Route:
        """The one route to `destination`; AssertionError when there is none or more than one."""
        routes = self.routes(table=table)
        matching = [route for route in routes if route.destination == destination]
        assert len(matching) == 1, f"{self}: not exactly one route to {destination} in {routes}"
        return matching[0]


def processes_in(namespaces: Iterable[Namespace]) -> set[int]:
    """The process ids of all live processes whose network namespace is one of these."""
    inodes = {namespace.inode for namespace in namespaces}
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile, or a zombie
                if os.stat(f"/proc/{name}/ns/net").st_ino in inodes:
                    found.add(int(name))
    return found


def _route(message: Any, names: Mapping[int, str]) -> Route:
    length = message["dst_len"]
    destination = message.get_attr("RTA_DST") or ("0.0.0.0" if message["family"] == socket.AF_INET else "::")
    metrics = message.get_attr("RTA_METRICS")
    hops: Sequence[Any] = message.get_attr("RTA_MULTIPATH") or ()
    gateways = [hop.get_attr("RTA_GATEWAY") for hop in hops] if hops else [message.get_attr("RTA_GATEWAY")]
    index = message.get_attr("RTA_OIF") or (hops[0]["oif"] if hops else 0)
    return Route(
        destination=f"{destination}/{length}",
        gateways=tuple(gateway for gateway in gateways if gateway),
        device=names.get(index),
        table=message.get_attr("RTA_TABLE") or message["table"],
        scope=message["scope"],
        priority=message.get_attr("RTA_PRIORITY"),
        mtu=metrics.get_attr("RTAX_MTU") if metrics else None,
        advmss=metrics.get_attr("RTAX_ADVMSS") if metrics else None,
        protocol=message["proto"],
    )


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
