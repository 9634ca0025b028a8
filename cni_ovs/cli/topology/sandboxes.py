"""What is in the containers' network namespaces that ports tell of; each is read once."""

from __future__ import annotations

from dataclasses import dataclass, field

from cni_ovs.plugin import tc
from cni_ovs.plugin.netlink import Netlink
from cni_ovs.plugin.netns import is_gone

from .. import kernel
from ..kernel import Link
from . import counters

# What became of a namespace.
READ, GONE, UNREADABLE = "read", "gone", "unreadable"


@dataclass(frozen=True)
class Sandbox:
    """What is in a namespace at one moment.

    Attributes:
        state: READ; GONE, if there is none at that path any more; UNREADABLE, if that cannot be known.
        links: its interfaces.
        counted: what `counters.devices` tells of them.
        limits: bits per second that an interface may send, by its name, where a token bucket filter limits it.
    """

    state: str
    links: list[Link] = field(default_factory=list)
    counted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)

    def link(self, *names: str) -> Link | None:
        """The interface that has one of these as its name or alternative name; the first name that there is."""
        return next((link for name in names for link in self.links if name in link.names), None)

    def other_end(self, outer: Link) -> Link | None:
        """The other end of a veth of the host, whatever it is called; None if that is in another namespace."""
        return next((link for link in self.links if link.index == outer.peer and link.peer == outer.index), None)


class Sandboxes:
    """The namespaces of a node, as they are when they are first asked for.

    Args:
        only_count: read the counters and nothing else, which takes a thirtieth of the time.
    """

    def __init__(self, *, only_count: bool = False) -> None:
        self._look = _count if only_count else _sandbox
        self._read: dict[str, Sandbox] = {}

    def of(self, path: str) -> Sandbox:
        """What is in the namespace of a path, which may be any text."""
        if path not in self._read:
            try:
                self._read[path] = self._look(path)
            except OSError:
                self._read[path] = Sandbox(GONE if is_gone(path) else UNREADABLE)
        return self._read[path]


def _count(path: str) -> Sandbox:
    with kernel.inside(path):
        return Sandbox(READ, counted=counters.devices())


def _sandbox(path: str) -> Sandbox:
    with kernel.inside(path):
        counted = counters.devices()
        netlink = Netlink()
    try:
        with kernel.connected(path) as there:
            links = kernel.links_over(there)
            shaped = {message["index"] for message in there.get_qdiscs() if message.get_attr("TCA_KIND") == "tbf"}
        rates = {link.name: tc.shaped_rate(netlink, link.index) for link in links if link.index in shaped}
    finally:
        netlink.close()
    # In bytes per second, as the plugin's bandwidth.py has set them.
    return Sandbox(READ, links, counted, {name: rate * 8 for name, rate in rates.items() if rate is not None})
