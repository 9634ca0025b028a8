"""What CHECK and STATUS ask of Open vSwitch; nothing is changed.

The rows are those of vswitch.py.
"""

from __future__ import annotations

import posix

from .errors import CniError
from .forms import UNIX_PATH_BYTES
from .ovsdb import Client, optional, references, select
from .vswitch import Port, Vswitch, is_made, select_bridge, select_ports, type_of

# How long the answer of ovs-vswitchd's control socket may take. It answers in a millisecond when it is well.
_CONTROL_SECONDS = 0.5


class PortState:
    """A port as Open vSwitch has it, for CHECK.

    `bridge` is None when no bridge holds it. `interface_ids` are the external_ids of its interface, `options` those of
    its type.
    """

    __slots__ = ("bridge", "error", "interface_ids", "ofport", "options", "port")

    def __init__(
        self,
        port: Port,
        bridge: str | None,
        ofport: int | None,
        error: str | None,
        interface_ids: dict[str, str],
        options: dict[str, str],
    ) -> None:
        self.port = port
        self.bridge = bridge
        self.interface_ids = interface_ids
        self.options = options
        self.ofport = ofport
        self.error = error


class Inspection(Vswitch):
    """Open vSwitch, to be looked at."""

    def has_bridge(self, name: str) -> bool | None:
        """Whether there is a bridge of this name; None if there is only its row, and ovs-vswitchd has not made it."""
        (bridges,) = self._transact(select_bridge(name))
        if bridges and is_made(bridges[0]):
            return True
        return None if bridges else False

    def state_of(self, name: str) -> PortState | None:
        """A port as Open vSwitch has it; None if there is none of that name."""
        ports, interfaces = self._transact(
            select_ports([["name", "==", name]]),
            select("Interface", [["name", "==", name]], ["type", "ofport", "error", "external_ids", "options"]),
        )
        if not ports:
            return None
        port = Port(ports[0], type_of(interfaces))
        this = ["set", [["uuid", port.uuid]]]
        (bridges,) = self._transact(select("Bridge", [["ports", "includes", this]], ["name"]))
        bridge = bridges[0]["name"] if bridges else None
        if not interfaces:
            return PortState(port, bridge, None, "its interface row is missing", {}, {})
        (row,) = interfaces
        ids, options = (dict(row[column][1]) for column in ("external_ids", "options"))
        return PortState(port, bridge, optional(row["ofport"]), optional(row["error"]), ids, options)

    def control_of(self, bridge: str) -> tuple[bool, str | None]:
        """Whether a bridge has a controller, and its fail_mode."""
        (rows,) = self._transact(select("Bridge", [["name", "==", bridge]], ["controller", "fail_mode"]))
        return (bool(references(rows[0]["controller"])), optional(rows[0]["fail_mode"])) if rows else (False, None)

    def external_ids(self) -> dict[str, str]:
        """Those of the Open_vSwitch row."""
        (rows,) = self._transact(select("Open_vSwitch", [], ["external_ids"]))
        return dict(rows[0]["external_ids"][1]) if rows else {}

    def datapath_type(self, bridge: str) -> str:
        """That of a bridge; "" also if there is none of that name."""
        (bridges,) = self._transact(select_bridge(bridge))
        return str(bridges[0]["datapath_type"]) if bridges else ""

    def limits_of(self, name: str) -> tuple[dict[str, str], int]:
        """What a port's QoS row says, if it has one, and the rate of its policing in kilobits per second; 0 is none."""
        by_name = [["name", "==", name]]
        ports, interfaces = self._transact(
            select("Port", by_name, ["qos"]), select("Interface", by_name, ["ingress_policing_rate"])
        )
        qos = references(ports[0]["qos"]) if ports else []
        policing = interfaces[0]["ingress_policing_rate"] if interfaces else 0
        if not qos:
            return {}, policing
        (rows,) = self._transact(select("QoS", [["_uuid", "==", ["uuid", qos[0]]]], ["other_config"]))
        return dict(rows[0]["other_config"][1]) if rows else {}, policing

    def is_answering(self) -> bool | None:
        """Whether the ovs-vswitchd beside a local database answers; a stopped process holds its lock, but does not.

        None where that cannot be known: the database is not on this machine, or the control socket is elsewhere.
        """
        kind, _, path = self._client.address.partition(":")
        if kind != "unix":
            return None
        folder = path.rpartition("/")[0] + "/"
        sockets = [folder + name for name in posix.listdir(folder) if _is_control_socket(folder, name)]
        for name in sockets:  # more than one where an earlier ovs-vswitchd was killed; nobody listens there
            try:
                control = Client(f"unix:{name}", self._client.deadline.shorter(_CONTROL_SECONDS))
            except CniError:
                continue
            try:
                control.call("version", [])
                return True
            except CniError:
                continue
            finally:
                control.close()
        return False if sockets else None


def _is_control_socket(folder: str, name: str) -> bool:
    fits = len((folder + name).encode(errors="surrogateescape")) <= UNIX_PATH_BYTES
    return fits and name.startswith("ovs-vswitchd.") and name.endswith(".ctl")
