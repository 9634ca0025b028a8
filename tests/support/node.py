"""A node: a host with Open vSwitch, containers, their attachments, and the proof that nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import ipam
from tests.support.namespace import Namespace, processes_in
from tests.support.openvswitch import PrivateOpenVSwitch, Row
from tests.support.plugin import LATEST, Attachment, Json, Plugin, Target
from tests.support.processes import keep, wait_for

OWNER = "cni-ovs"
INTERNAL_KINDS = ("tun", "openvswitch")  # of the device of an internal port: userspace datapath, kernel's


class Node:
    """One test's view of a host: a bridge of its own on a running Open vSwitch, sandboxes, attachments.

    pod = node.attachment(vlan=5)           # a new sandbox, a new container id, the interface net1
    pod.add().ok()
    ...
    pod.delete().silent()
    node.assert_nothing_left()
    """

    def __init__(self, openvswitch: PrivateOpenVSwitch, target: Target, folder: Path) -> None:
        """`folder` takes host-local's address files, scripts, and the plugin's temporary files."""
        self.openvswitch = openvswitch
        self.host = openvswitch.namespace
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.address_files = folder / "host-local"
        self.plugin = Plugin(target, self.host, self.temporary)
        self.network = f"net-{secrets.token_hex(3)}"
        self.bridge = self.add_bridge()
        self.sandboxes: list[Namespace] = []
        self._bridges = [self.bridge]
        self._helpers: set[int] = set()
        self._devices: set[str] = set()

    # Making things

    def add_bridge(self) -> str:
        """Adds a further bridge with a random name."""
        name = f"br{secrets.token_hex(4)}"
        self.openvswitch.add_bridge(name)
        if hasattr(self, "_bridges"):
            self._bridges.append(name)
        return name

    def sandbox(self) -> Namespace:
        """A new container namespace, with nothing in it but lo."""
        sandbox = Namespace()
        self.sandboxes.append(sandbox)
        return sandbox

    def config(self, **keys: Any) -> Json:
        """The network's configuration, with `keys` added or, where they are None, taken out."""
        config: Json = {
            "cniVersion": LATEST,
            "name": self.network,
            "type": "ovs",
            "bridge": self.bridge,
            "socket_file": self.openvswitch.remote,
            **keys,
        }
        return {key: value for key, value in config.items() if value is not None}

    def attachment(
        self,
        *,
        sandbox: Namespace | None = None,
        ifname: str = "net1",
        container_id: str | None = None,
        cni_args: str = "",
        cni_path: str | None = None,
        **keys: Any,
    ) -> Attachment:
        """An attachment to the network, of a new container in a new sandbox unless told otherwise.

        `keys` are those of the network configuration, see `config`. CNI_PATH follows from the configuration's version.
        """
        config = self.config(**keys)
        return Attachment(
            self.plugin,
            config,
            container_id=container_id or secrets.token_hex(32),
            sandbox=sandbox or self.sandbox(),
            ifname=ifname,
            args=cni_args,
            cni_path=cni_path or ipam.cni_path(str(config.get("cniVersion", "0.1.0")), needed=bool(config.get("ipam"))),
        )

    def attached(self, **options: Any) -> Attachment:
        """The same, and ADD has succeeded."""
        attachment = self.attachment(**options)
        attachment.add().ok()
        return attachment

    def host_local(self, *subnets: str, **ranges: str) -> Json:
        """An `ipam` section for host-local whose address files `assert_nothing_left` counts."""
        return ipam.host_local(self.address_files, *(subnets or ("10.10.0.0/16",)), **ranges)

    def scripted_ipam(self, **actions: str) -> ipam.ScriptedIpam:
        """A real IPAM plugin that does what `actions` say; see ScriptedIpam."""
        return ipam.ScriptedIpam(self.folder / "scripts", **actions)

    def helper(self, pid: int) -> None:
        """Says that a process on the host belongs to the test, so that it does not count as left behind."""
        self._helpers.add(pid)

    def device(self, name: str) -> None:
        """Says that a device on the host belongs to the test, so that it does not count as left behind there."""
        self._devices.add(name)

    def vanish(self, *attachments: Attachment) -> None:
        """Their namespaces go with all devices and without a DEL, and ovs-vswitchd has noticed."""
        names = [self.port(attachment)["name"] for attachment in attachments]
        for attachment in attachments:
            attachment.sandbox.delete()
        wait_for("the devices are gone", lambda: not set(names) & set(self.host.links()))
        for name in names:
            self.wait_until_noticed(name)

    def reboot(self, *attachments: Attachment) -> None:
        """The daemons crash, all veths and these containers vanish, and the daemons start on the same database."""
        self.openvswitch.ovs_vswitchd.kill()
        self.openvswitch.ovsdb_server.kill()
        for attachment in attachments:
            attachment.sandbox.delete()
        for name, link in self.host.links().items():
            if link.kind == "veth":
                self.host.run("ip", "link", "delete", name, check=False)
        gone = lambda: all(link.kind != "veth" for link in self.host.links().values())  # noqa: E731
        wait_for("all veths are gone", gone)
        self.openvswitch.start_ovsdb_server()
        self.openvswitch.start_ovs_vswitchd()

    def finish_sweep(self, *, keep: Sequence[Attachment]) -> None:
        """Lets GC do what the sweeps of `keep`'s ADDs have not got through on the kernel's datapath.

        A sweep has a second, which is enough but on the emulated processor that this datapath is tested on.
        """
        if self.openvswitch.datapath_type == "system" and self.leftovers(keep=keep):
            kept = [{"containerID": pod.container_id, "ifname": pod.ifname} for pod in keep]
            keep[0].gc(**{"cni.dev/valid-attachments": kept}).silent()

    def wait_until_noticed(self, name: str) -> None:
        """Until ovs-vswitchd has noticed that the device of a veth is gone; each datapath says so in another way."""

        def noticed() -> bool:
            row = self.openvswitch.row("Interface", name)
            return bool(row["ofport"] == -1 or row["ifindex"] == 0)

        wait_for("ovs-vswitchd has no device for it", noticed)

    def wait_for_flows(self) -> None:
        """Waits until ovs-vswitchd has renewed its flows: those that are older than a port do not lead to it.

        The kernel asks only once whether another has an address, and the answer, which is for all, may take such a
        flow.
        """
        for _ in range(2):  # the first may be the end of a pass that began earlier
            self.openvswitch.appctl("revalidator/wait")

    # Looking

    def ports(self) -> list[Row]:
        """The Port rows in Open vSwitch that say they are ours."""
        return [row for row in self.openvswitch.rows("Port") if row["external_ids"].get("owner") == OWNER]

    def port(self, attachment: Attachment) -> Row:
        """The one Port row of an attachment, found by what is recorded in it."""
        matching = [
            row
            for row in self.ports()
            if row["external_ids"].get("contID") == attachment.container_id
            and row["external_ids"].get("contIface") == attachment.ifname
            and row["external_ids"].get("contNetwork") == attachment.config["name"]
        ]
        assert len(matching) == 1, f"not exactly one port of {attachment.container_id}: {matching}"
        return matching[0]

    def interface(self, attachment: Attachment) -> Row:
        """The Interface row of an attachment's port."""
        return self.openvswitch.row("Interface", self.port(attachment)["name"])

    def addresses_given_out(self) -> list[str]:
        """The addresses that host-local believes to be in use."""
        return ipam.host_local_files(self.address_files)

    def strangers(self) -> set[int]:
        """The processes on the host or in a sandbox that are not Open vSwitch's daemons or the test's own."""
        namespaces = [self.host, *(sandbox for sandbox in self.sandboxes if sandbox.exists)]
        return processes_in(namespaces) - self.openvswitch.daemons - self._helpers

    def leftovers(self, *, keep: Sequence[Attachment] = (), unreturned: int = 0) -> list[str]:
        """What exists of any attachment but those in `keep`, one text each; the empty list is the good answer.

        `unreturned`: how many addresses are noted in Open vSwitch because IPAM could not return them.
        """
        kept_ids = {attachment.container_id for attachment in keep}
        all_ports, interfaces, bridges, *limits = self.openvswitch.tables("Port", "Interface", "Bridge", "QoS", "Queue")
        ports = [row for row in all_ports if row["external_ids"].get("owner") == OWNER]
        kept_ports = {row["name"] for row in ports if row["external_ids"].get("contID") in kept_ids}
        kept_addresses = {address for attachment in keep for address in attachment.addresses}
        devices = (
            set(self.host.links()) - self.host.initial_devices - self.openvswitch.bridges - {"ovs-netdev", "ovs-system"}
        ) - self._devices
        found = [f"port {row['name']}" for row in ports if row["name"] not in kept_ports]
        found += [
            f"interface {row['name']}"
            for row in interfaces
            if row["name"].startswith("cni") and row["name"] not in kept_ports
        ]
        found += [
            f"limit {row['_uuid']} of {row['external_ids'].get('contIface')}"
            for rows in limits
            for row in rows
            if row["external_ids"].get("owner") == OWNER and row["external_ids"].get("contID") not in kept_ids
        ]
        notes = [key for row in bridges for key in row["external_ids"] if key.startswith("cni-ovs")]
        if len(notes) != unreturned:
            found.append(f"notes of bridges, not {unreturned}: {notes}")
        found += [f"host device {name}" for name in devices - kept_ports]
        kept_sandboxes = {attachment.sandbox.name for attachment in keep}
        for sandbox in self.sandboxes:
            if sandbox.exists and sandbox.name not in kept_sandboxes:
                found += [f"device {name} in {sandbox}" for name in set(sandbox.links()) - sandbox.initial_devices]
        found += [f"address {name}" for name in self.addresses_given_out() if name not in kept_addresses]
        found += [f"process {pid}: {_command_line(pid)}" for pid in self.strangers()]
        found += [f"temporary {path}" for path in self.temporary.iterdir()]
        return found

    def assert_nothing_left(self, *, keep: Sequence[Attachment] = (), unreturned: int = 0) -> None:
        """No port, interface, device, address file, process or temporary file of ours is left, but for `keep`'s.

        The device of an internal port is removed by ovs-vswitchd some time after its row, hence the bounded wait; all
        else is gone when the plugin ends.
        """
        found = self.leftovers(keep=keep, unreturned=unreturned)
        slow = [text for text in found if text.startswith(("host device", "device")) and self._was_internal(text)]
        bad = [text for text in found if text not in slow]
        assert not bad, f"left behind: {bad}"
        if slow:
            gone = lambda: not self.leftovers(keep=keep, unreturned=unreturned)  # noqa: E731
            wait_for("ovs-vswitchd has removed its devices", gone, timeout=5)

    def clean(self) -> None:
        """Removes by force what the test made and whatever the plugin left."""
        if keep():
            return
        self.openvswitch.ovsdb_server.thaw()
        self.openvswitch.ovs_vswitchd.thaw()
        for pid in self.strangers() | self._helpers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for sandbox in self.sandboxes:
            sandbox.delete()
        if self.openvswitch.ovsdb_server.running and self.openvswitch.ovs_vswitchd.running:
            self.openvswitch.delete_bridges(self._bridges)
            ours = [["external_ids", "includes", ["map", [["owner", OWNER]]]]]
            self.openvswitch.transact(
                {"op": "update", "table": "Port", "where": ours, "row": {"qos": ["set", []]}},
                *({"op": "delete", "table": table, "where": ours} for table in ("QoS", "Queue")),
            )
        for name, link in self.host.links().items():
            if link.kind == "veth" or name in self._devices:
                self.host.run("ip", "link", "delete", name, check=False)

    def _was_internal(self, text: str) -> bool:
        """True when the device of a leftover is that of an internal port, or has gone meanwhile."""
        name = text.split()[text.split().index("device") + 1]
        kinds = [
            links[name].kind
            for links in [self.host.links(), *(sandbox.links() for sandbox in self.sandboxes if sandbox.exists)]
            if name in links
        ]
        return all(kind in INTERNAL_KINDS for kind in kinds)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"
