"""Which ports were asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .. import database, kernel, targets, wording
from . import model as topology
from .model import Attachment, Host, Port, Topology


@dataclass(frozen=True)
class Selection:
    """What a port has to be like; None is anything. Everything that is given has to be so.

    Attributes:
        bridge, network: their names.
        pod: NAME or NAMESPACE/NAME.
        target: what the container is called, whatever of it is recorded: pod, name, id or namespace.
        container: its name, or how its id begins.
        vlan: a VLAN that the port carries.
        netns: path of a network namespace, or its name in /run/netns.
    """

    target: str | None = None
    bridge: str | None = None
    pod: str | None = None
    container: str | None = None
    network: str | None = None
    vlan: int | None = None
    netns: str | None = None

    @property
    def is_of_containers(self) -> bool:
        """Whether it asks for attachments only."""
        asked = (self.target, self.pod, self.container, self.network, self.netns)
        return any(value is not None for value in asked)

    def of(self, openvswitch: database.OpenVSwitch, host: Host) -> Topology:
        """What is asked for. A bridge is left out if only ports were asked for, and none of its is so."""
        whole = topology.build(openvswitch, host, self.has)
        bridges = [bridge for bridge in whole.bridges if self.bridge in (None, bridge.name)]
        if self.is_of_containers or self.vlan is not None:
            bridges = [bridge for bridge in bridges if bridge.ports]
        return replace(whole, bridges=bridges, is_part=self != Selection())

    def has(self, port: Port) -> bool:
        """Whether a port is asked for."""
        if self.bridge not in (None, port.bridge):
            return False
        row = port.row
        if self.vlan is not None and not wording.carries(self.vlan, row.vlan_mode, row.tag, row.trunks):
            return False
        if not self.is_of_containers:
            return True
        return port.attachment is not None and self._has(port.attachment)

    def _has(self, attachment: Attachment) -> bool:
        pods = (attachment.pod_name, f"{attachment.pod_namespace}/{attachment.pod_name}")
        return (
            (self.target is None or self.target in pods or _is_called(self.target, attachment))
            and (self.pod is None or self.pod in pods)
            and (self.container is None or _is_container(self.container, attachment))
            and self.network in (None, attachment.network)
            and (self.netns is None or _is_same_namespace(self.netns, attachment.netns))
        )


def _is_called(text: str, attachment: Attachment) -> bool:
    return _is_container(text, attachment) or _is_same_namespace(text, attachment.netns)


def _is_container(text: str, attachment: Attachment) -> bool:
    return bool(text) and (text == attachment.container_name or attachment.container_id.startswith(text))


def _is_same_namespace(wanted: str, recorded: str) -> bool:
    """Whether two paths lead to the same namespace; of one that is gone only the path can tell."""
    if not recorded:
        return False
    path = wanted if wanted.startswith("/") else str(targets.NAMED / wanted)
    if Path(path) == Path(recorded):
        return True
    try:
        return kernel.identity(path) == kernel.identity(recorded)
    except OSError:  # /var/run is a link to /run
        return Path(path).name == Path(recorded).name and Path(path).parent.resolve() == Path(recorded).parent.resolve()
