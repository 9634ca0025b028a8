"""The machine that the plugins work on: an Open vSwitch of its own with as many ports as wanted, and a Linux bridge."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
from pathlib import Path

from pyroute2 import netns

from build.benchmark.container import Container, Responder
from build.benchmark.database import Database
from build.benchmark.plugins import RESPONDER
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.processes import run, wait_for

OVS_BRIDGE = "br-bench"
LINUX_BRIDGE = "lbr-bench"
_BATCH = 250  # ports per transaction
_SUFFIX = "/16"


class Machine:
    """A private Open vSwitch and a Linux bridge in a namespace that plays the host, in which this process then is.

    On each bridge there is a container already, which answers pings.
    """

    def __init__(self) -> None:
        """Starts everything."""
        self._inside = False
        self._temporary = tempfile.TemporaryDirectory(prefix="cniovs-bench-")
        self.folder = Path(self._temporary.name)
        self.containers: list[Container] = []
        self.ports = 0
        self._responders: list[Responder] = []
        self._openvswitch = PrivateOpenVSwitch()
        try:
            self._openvswitch.start()
            self._openvswitch.add_bridge(OVS_BRIDGE)
            self.socket, self.remote = self._openvswitch.socket, self._openvswitch.remote
            self.host = self._openvswitch.namespace
            self.host.ip("link", "add", LINUX_BRIDGE, "type", "bridge")
            self.host.ip("link", "set", LINUX_BRIDGE, "up")
            self._add_responder("r-ovs")
            self._openvswitch.vsctl("add-port", OVS_BRIDGE, "r-ovs")
            self._add_responder("r-linux")
            self.host.ip("link", "set", "r-linux", "master", LINUX_BRIDGE)
            self.database = Database(self._openvswitch.socket)
            netns.pushns(self.host.name)
            self._inside = True
            self.known = set(self.database.ports())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends everything. It takes long with thousands of ports: the kernel waits for RCU for each of them."""
        if self._inside:
            netns.popns()
        for container in self.containers:
            container.delete()
        for responder in self._responders:
            responder.delete()
        daemon = self._openvswitch.ovs_vswitchd
        if daemon.running:
            daemon.signal(signal.SIGKILL)
            # The process has ended when its last thread has; the first one is a zombie long before.
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            wait_for("ovs-vswitchd ends", lambda: os.waitid(os.P_PID, daemon.pid, options), timeout=300, interval=0.1)
        self._openvswitch.stop()
        self._temporary.cleanup()

    def container(self, number: int) -> Container:
        """One of the containers; they are made on demand."""
        while len(self.containers) <= number:
            self.containers.append(Container())
        return self.containers[number]

    def settle(self) -> None:
        """Waits until nothing of what was done is still being worked off, so that nobody pays for another's work."""
        self.database.settle()
        # ovs-vswitchd looks whether a link has changed only in a turn in which the database has not (bridge_run() in
        # its bridge.c). So after the answer it may go through all its ports once more, because of the links of a
        # detached container. It has a turn for each question here: if the answer is the same, there is nothing left.
        passes, before = self._passes(), ""
        while passes != before:
            passes, before = self._passes(), passes

    def _passes(self) -> str:
        """How often ovs-vswitchd has gone through all its ports."""
        return self._openvswitch.appctl("coverage/read-counter", "bridge_reconfigure", timeout=60)

    def forget_neighbours(self) -> None:
        """Makes the containers that are already there forget everybody, as if nobody had been there before."""
        for responder in self._responders:
            run(["ip", "-n", responder.namespace.name, "neigh", "flush", "all"])

    def questions(self) -> int:
        """How often the containers that are already there were asked for their MAC address since the last call."""
        return sum(responder.questions(RESPONDER) for responder in self._responders)

    def fill(self, count: int) -> None:
        """Sees to it that the Open vSwitch bridge has this many ports besides the responder's; never fewer than before.

        They are veth pairs whose other ends are on the host, without a word of IPv6: the kernel's own announcements,
        from every port to every port, would be work that no idle port makes.
        """
        self.host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        while self.ports < count:
            names = [f"fill{number}" for number in range(self.ports, min(count, self.ports + _BATCH))]
            lines = [f"link add {name} up type veth peer name {name}p\nlink set {name}p up\n" for name in names]
            self.host.run("ip", "-batch", "-", stdin="".join(lines), timeout=120)
            words = [word for name in names for word in ("--", "add-port", OVS_BRIDGE, name)]
            self._openvswitch.vsctl(*words[1:], timeout=120)
            self.ports += len(names)
        self.host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0")
        wait_for("every port has its OpenFlow number", self._all_numbered, timeout=120, interval=0.1)
        numbers = self.database.ports()
        refused = [name for name, number in numbers.items() if number == -1]
        if refused:
            raise RuntimeError(f"ovs-vswitchd refused {len(refused)} ports: {refused[:3]}")
        self.known = set(numbers)

    def _all_numbered(self) -> bool:
        return None not in self.database.ports().values()

    def clean_up(self, container: Container) -> None:
        """Removes by force what a plugin that failed may have left."""
        run(["ip", "-n", container.namespace.name, "link", "delete", "eth0"], check=False)
        self.database.settle()
        for name in set(self.database.ports()) - self.known:
            self._openvswitch.vsctl("--if-exists", "del-port", name)
        self.database.settle()

    def _add_responder(self, port: str) -> None:
        responder = Responder()
        self._responders.append(responder)
        device = f"p{secrets.token_hex(4)}"
        self.host.ip("link", "add", port, "up", "type", "veth", "peer", "name", device)
        self.host.ip("link", "set", device, "netns", responder.namespace.name, "name", "eth0")
        responder.namespace.ip("link", "set", "eth0", "up")
        responder.namespace.ip("address", "add", RESPONDER + _SUFFIX, "dev", "eth0")
