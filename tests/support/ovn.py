"""A private OVN: its central databases and ovn-northd, and a chassis on each of several nodes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.openvswitch import Daemon
from tests.support.processes import run, wait_for

_SCHEMAS = Path("/usr/share/ovn")
_UNDERLAY = "brphy"
PROGRAMS = ("ovn-controller", "ovn-northd", "ovn-nbctl", "ovn-sbctl")


def missing() -> str | None:
    """Says why there is no OVN, or None."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(absent)}: not installed (Debian: ovn-central, ovn-host)" if absent else None


class Ovn:
    """Northbound and southbound database, ovn-northd, and what is told to them with OVN's own tools."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="cniovs-"))
        self.namespace = Namespace("ovn")
        self._chassis: list[Daemon] = []
        self._databases = [self._database(which) for which in ("nb", "sb")]
        self._northd = self._daemon(
            self.namespace, "ovn-northd", f"--ovnnb-db={self.remote('nb')}", f"--ovnsb-db={self.remote('sb')}"
        )

    def remote(self, which: str) -> str:
        """Where the northbound ("nb") or southbound ("sb") database listens."""
        return f"unix:{self.folder}/{which}.sock"

    def start(self) -> None:
        """Starts all, and waits until they answer."""
        for database in self._databases:
            database.start()
        for which in ("nb", "sb"):
            wait_for(f"the {which} database answers", (self.folder / f"{which}.sock").exists)
        self._northd.start()
        self.nbctl("--wait=sb", "init")

    def join(self, nodes: list[Node]) -> None:
        """Makes each node a chassis, whose integration bridge is the node's, and connects two of them by a cable."""
        one, other = (node.host for node in nodes)
        one.ip("link", "add", "phy", "type", "veth", "peer", "name", "phy", "netns", other.name)
        for number, node in enumerate(nodes, 1):
            # The userspace datapath sends tunnels by itself: over the bridge that has the address.
            node.openvswitch.add_bridge(_UNDERLAY)
            node.openvswitch.vsctl("add-port", _UNDERLAY, "phy")
            node.host.ip("link", "set", "phy", "up")
            node.host.ip("address", "add", f"192.0.2.{number}/24", "dev", _UNDERLAY)
            node.host.ip("link", "set", _UNDERLAY, "up")
            ids = {
                "system-id": f"chassis{number}",
                "ovn-bridge": node.bridge,
                "ovn-remote": self.remote("sb"),
                "ovn-encap-type": "geneve",
                "ovn-encap-ip": f"192.0.2.{number}",
            }
            settings = [f'external_ids:{key}="{value}"' for key, value in ids.items()]
            node.openvswitch.vsctl("set", "Open_vSwitch", ".", *settings)
            # It speaks to ovs-vswitchd through the bridge's socket, in the folder of that.
            words = ["ovn-controller", node.openvswitch.remote]
            controller = self._daemon(node.host, *words, name=f"chassis{number}", folder=node.openvswitch.folder)
            controller.start()
            node.helper(controller.pid)
            self._chassis.append(controller)
        wait_for("OVN knows every chassis", lambda: self.sbctl("list", "Chassis").count("_uuid") == len(nodes))
        self.nbctl("--wait=hv", "sync")

    def controller(self, number: int) -> Daemon:
        """The ovn-controller of a chassis, counted from 0."""
        return self._chassis[number]

    def nbctl(self, *words: str) -> str:
        """Runs ovn-nbctl, as `nbctl("ls-add", "switch")`."""
        return run(["ovn-nbctl", f"--db={self.remote('nb')}", "--timeout=15", *words]).stdout.strip()

    def sbctl(self, *words: str) -> str:
        """Runs ovn-sbctl."""
        return run(["ovn-sbctl", f"--db={self.remote('sb')}", "--timeout=15", *words]).stdout.strip()

    def chassis_of(self, port: str) -> str:
        """The name of the chassis that a logical port is bound to; empty if it is to none."""
        uuid = self.sbctl("--bare", "--columns=chassis", "find", "Port_Binding", f"logical_port={port}")
        return self.sbctl("get", "Chassis", uuid, "name").strip('"') if uuid else ""

    def stop(self) -> None:
        """Ends all and removes the folder."""
        for daemon in (*self._chassis, self._northd, *self._databases):
            daemon.stop()
        self.namespace.delete()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, namespace: Namespace, *words: str, name: str = "", folder: Path | None = None) -> Daemon:
        name = name or words[0]
        files = (f"--pidfile={self.folder}/{name}.pid", f"--log-file={self.folder}/{name}.log", "-vconsole:off")
        return Daemon(namespace.command("env", f"OVN_RUNDIR={self.folder}", *words, *files), folder or self.folder)

    def _database(self, which: str) -> Daemon:
        file = self.folder / f"{which}.db"
        run(["ovsdb-tool", "create", file, _SCHEMAS / f"ovn-{which}.ovsschema"])
        return self._daemon(self.namespace, "ovsdb-server", str(file), f"--remote=p{self.remote(which)}", name=which)
