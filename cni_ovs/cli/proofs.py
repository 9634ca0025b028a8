"""Whether a container is gone: what proves it, and what leaves a doubt. Without a proof it is taken to live."""

from __future__ import annotations

import time

from cni_ovs.plugin import at_work, devices
from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.devices import vf_release
from cni_ovs.plugin.forms import is_identifier, tells_attachment
from cni_ovs.plugin.netlink import Netlink
from cni_ovs.plugin.netns import is_gone, is_own
from cni_ovs.plugin.vswitch import USERSPACE, Port

from . import database, kernel, taps
from .failure import Failure
from .recorded import INTERRUPTED, is_process_gone

_CLAIM_SECONDS = 5  # another command that has begun to remove a port needs less


class Proofs:
    """Looks at namespaces and devices.

    Args:
        address: of the database.
        state: what is in it.

    Raises:
        Failure: we are not where ovs-vswitchd is: a veth that is not seen here would prove nothing.
    """

    def __init__(self, address: str, state: database.OpenVSwitch) -> None:
        if state.bridges and not _is_beside(state):
            raise Failure(
                "none of Open vSwitch's bridges is an interface of this network namespace",
                "run it on the host that has these bridges, while ovs-vswitchd runs",
            )
        self._bridges = {port.uuid: (bridge, port) for bridge, port in state.ports()}
        self._taps = taps.alive(address, state)
        self._host = Netlink()

    def is_alive(self, recorded: dict[str, str]) -> bool:
        """Whether the network namespace of a container is there."""
        path = recorded.get("contNetns", "")
        return kernel.is_namespace(path) and not is_own(path) and not is_process_gone(recorded)

    def doubt(self, port: Port) -> str:
        """Why a port's container may live although there is no namespace at its path; "" if it is provably gone."""
        recorded = port.external_ids
        if not tells_attachment(recorded) or not is_identifier(recorded.get("contNetwork", "")):
            return "it does not say whose it is"
        if not recorded.get("contNetns"):
            return "it does not say where its network namespace was"
        if not is_process_gone(recorded):  # else the path may be another one's by now
            if is_own(recorded["contNetns"]):
                return "at the path of its network namespace is that of this host"
            if not is_gone(recorded["contNetns"]):
                return "its network namespace cannot be seen from here"
        claimed = recorded.get(attachments.CLAIM, "")
        if claimed.isdecimal() and abs(time.time() - int(claimed[:19])) < _CLAIM_SECONDS:
            return "another command is just removing it"
        if at_work.is_add_alive(attachments.name_of(recorded)):
            return "it is just being attached or removed"
        return self._device_doubt(port)

    def _device_doubt(self, port: Port) -> str:
        """The same, by the device: a namespace may live on without its path, held by a process or another mount."""
        if attachments.DEVICE in port.external_ids:
            if vf_release.on_host(self._host, port.external_ids) is not None:
                return ""
            return "its VF is not on the host, so its network namespace may live on"
        on_host = self._host.link(port.name) is not None
        if port.interface_type in devices.MOVED:
            # On the host is a new one, which ovs-vswitchd makes when it is restarted; the container has none then.
            if on_host:
                return ""
            if self._datapath(port) != USERSPACE or self._taps is None:
                return "whether its device is gone cannot be known before ovs-vswitchd is restarted"
            return (
                "its device lives, so its network namespace does, without that path" if port.name in self._taps else ""
            )
        if port.interface_type in devices.VHOST_USER:
            return "a program may still use its socket" if self._is_connected(port) else ""
        return "its veth pair is there, so its network namespace lives, without that path" if on_host else ""

    def _datapath(self, port: Port) -> str:
        hangs = self._bridges.get(port.uuid)
        return hangs[0].datapath_type if hangs else ""

    def _is_connected(self, port: Port) -> bool:
        """Whether a vhost-user port has, or may have, a program at its other end."""
        if port.external_ids["contNetns"].startswith("/proc/"):
            return True  # a process was named, and another may have the namespace
        hangs = self._bridges.get(port.uuid)
        interface = hangs[1].interface if hangs else None
        return interface is None or interface.link_state != "down"

    def doubt_of_note(self, name: str, recorded: dict[str, str]) -> str:
        """The same for an attachment whose port has been removed already.

        Whoever removed it may not have known the path: a runtime leaves it out when the namespace is gone.
        """
        path = recorded.get("contNetns", "")
        if not is_identifier(recorded.get("contNetwork", "")):
            return "it does not say whose it is"
        is_elsewhere = is_process_gone(recorded)
        if kernel.is_namespace(path) and not is_elsewhere:
            if INTERRUPTED in recorded:
                return "its network namespace is there: `cni-ovs reattach` attaches it anew"
            return "its network namespace is there: its runtime, or `cni-ovs detach`, finishes the removal"
        if path and not is_elsewhere and not is_gone(path):
            return "its network namespace cannot be seen from here"
        if self._host.link(name) is not None:
            return "its veth pair is there, so its network namespace lives, without that path"
        return "it is just being attached or removed" if at_work.is_add_alive(name) else ""


def _is_beside(state: database.OpenVSwitch) -> bool:
    """Whether this is the network namespace of ovs-vswitchd, where each bridge has an interface of its own."""
    here = {(link.name, link.index, link.mac) for link in kernel.links()}
    local = (
        interface for bridge, port in state.ports() for interface in port.interfaces if interface.name == bridge.name
    )
    return any((interface.name, interface.ifindex, interface.mac_in_use) in here for interface in local)
