"""What the plugin says to Open vSwitch: its Bridge, Port and Interface rows (ovs-vswitchd.conf.db(5)).

How it is said is ovsdb.py's business.
"""

from __future__ import annotations

from .attachment import QOS_ROW, RATE_LIMITER, identity_of, is_port_name
from .errors import BRIDGE_NOT_FOUND, CniError
from .forms import is_integer
from .ovsdb import (
    Client,
    TransactionError,
    is_map,
    is_optional,
    is_set_of,
    is_text,
    is_uuid,
    map_of,
    mutate,
    optional,
    select,
    set_of,
    unknown_form,
    wait,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .attachment import Attachment
    from .deadline import Deadline

DATABASE = "Open_vSwitch"
NOT_MET = "timed out"  # the error of a transaction with a `wait` that is not met in its time
OVS_CNI = "ovs-cni.network.kubevirt.io"
USERSPACE = "netdev"
START_VSWITCHD = "start it: systemctl start openvswitch-switch"

# The columns that are read, and whether a value is one of them (ovs-vswitchd.conf.db(5)).
_COLUMNS: dict[str, Callable[[Any], bool]] = {
    "_uuid": is_uuid,
    **dict.fromkeys(("external_ids", "options", "other_config"), is_map),
    "dpdk_initialized": lambda value: isinstance(value, bool),
    "iface_types": lambda value: is_set_of(is_text, value),
    **dict.fromkeys(("name", "type", "datapath_type"), is_text),
    **dict.fromkeys(("next_cfg", "cur_cfg", "ingress_policing_rate"), is_integer),
    **dict.fromkeys(("datapath_id", "error", "fail_mode", "vlan_mode"), lambda value: is_optional(is_text, value)),
    **dict.fromkeys(("ofport", "output_vlan", "tag"), lambda value: is_optional(is_integer, value)),
    **dict.fromkeys(("cvlans", "trunks"), lambda value: is_set_of(is_integer, value)),
    **dict.fromkeys(
        ("controller", "mirrors", "output_port", "qos", "select_dst_port", "select_src_port"),
        lambda value: is_set_of(is_uuid, value),
    ),
}

# How long somebody else may hold the lock who, like us, only asks for it.
_LOCK_SECONDS = 0.03
# For an answer that is sent when a time is over.
_ANSWER_SECONDS = 0.1


class Port:
    """A Port row, and the type of the Interface row of the same name."""

    __slots__ = ("cvlans", "external_ids", "interface_type", "name", "tag", "trunks", "uuid", "vlan_mode")

    def __init__(self, row: dict[str, Any], interface_type: str | None) -> None:
        self.uuid: str = row["_uuid"][1]
        self.name: str = row["name"]
        self.external_ids: dict[str, str] = dict(row["external_ids"][1])
        self.tag: int | None = optional(row["tag"])
        self.trunks: list[int] = set_of(row["trunks"])
        self.cvlans: list[int] = set_of(row["cvlans"])
        self.vlan_mode: str | None = optional(row["vlan_mode"])
        self.interface_type = interface_type  # None: there is no such interface row


class Vswitch:
    """Open vSwitch behind one connection to its database.

    Args:
        address, deadline: as for ovsdb.Client; so are the errors. Every method raises CniError TRY_AGAIN_LATER
            when the database does not answer in time.
    """

    def __init__(self, address: str, deadline: Deadline) -> None:
        self._client = Client(address, deadline)
        self._asked: dict[int, tuple[dict[str, Any], ...]] = {}  # operations, by request
        self.suspects: list[str] = []  # ports that may be stale, see `select_suspects`

    def use(self, deadline: Deadline) -> None:
        """Go on under another deadline."""
        self._client.deadline = deadline

    # Finding and removing

    def ports_of(self, attachment: Attachment) -> tuple[list[Port], bool]:
        """Every port of one attachment: by what is recorded, by its name, and what ovs-cni left behind for it.

        Returns:
            The ports, and whether somebody else has a port of this attachment's name.
        """
        wanted = attachment.identity
        recorded, named = self._ports(
            [["external_ids", "includes", map_of(wanted)]],
            [["name", "==", attachment.port_name]],
            probably=attachment.port_name,
        )
        # A port of our name is ours unless what is recorded says otherwise: the record may be incomplete
        # (somebody edited it), and a name may, however unlikely, be that of another attachment.
        ours = [p for p in named if all(p.external_ids.get(key, value) == value for key, value in wanted.items())]
        foreign = len(ours) < len(named)
        found = list({port.uuid: port for port in (*recorded, *ours)}.values())
        if found or not attachment.netns:
            return found, foreign
        ovs_cni = {"owner": OVS_CNI, "contNetns": attachment.netns, "contIface": attachment.ifname}
        return self._ports([["external_ids", "includes", map_of(ovs_cni)]])[0], foreign

    def ports_named(self, names: list[str], owner_and_network: dict[str, str]) -> list[Port]:
        """The ports of these names whose external_ids include these."""
        ours = ["external_ids", "includes", map_of(owner_and_network)]
        return [port for ports in self._ports(*([["name", "==", name], ours] for name in names)) for port in ports]

    def claim(self, port: Port, external_ids: dict[str, str]) -> bool:
        """Add these to a port, if its external_ids are unchanged; False if they are not, or it has gone."""
        this = [["_uuid", "==", ["uuid", port.uuid]]]
        return self._succeeds(_is_unchanged(port), *_replace_ids("Port", this, external_ids))

    def wait_until_removed(self, port: Port, deadline: Deadline) -> None:
        """Wait until a port is gone, or the time is over."""
        this = [["_uuid", "==", ["uuid", port.uuid]]]
        self._succeeds(wait("Port", this, "!=", {"name": port.name}, self._milliseconds(deadline)))

    def port_records(self) -> list[tuple[str, dict[str, str]]]:
        """Name and external_ids of every port."""
        (ports,) = self._transact(select("Port", [], ["name", "external_ids"]))
        return [(row["name"], dict(row["external_ids"][1])) for row in ports]

    def bridge_names(self) -> list[str]:
        """The names of all bridges."""
        (bridges,) = self._transact(select("Bridge", [], ["name"]))
        return [row["name"] for row in bridges]

    def ports_of_network(self, owner_and_network: dict[str, str]) -> list[Port]:
        """Every port whose external_ids include these."""
        return self._ports([["external_ids", "includes", map_of(owner_and_network)]])[0]

    def remove(self, ports: list[Port]) -> int | None:
        """Remove ports from whatever bridge has them. Those that are gone already do not matter.

        Returns:
            The number to give to `wait_until_configured`.
        """
        return self._remove_by_uuid([port.uuid for port in ports], more=_delete_limits(ports))

    def remove_unchanged(self, ports: list[Port], notes: dict[str, str] | None = None) -> tuple[bool, int | None]:
        """The same, unless one is gone or its external_ids have changed since they were read.

        Args:
            ports: which.
            notes: what to add to the external_ids of their bridge in the same moment (see detaching.py).

        Returns:
            Whether it was done, and the number as of `remove`.
        """
        try:
            more = [*map(_is_unchanged, ports), *_delete_limits(ports)]
            return True, self._remove_by_uuid([port.uuid for port in ports], notes, more)
        except TransactionError as error:
            if error.error != NOT_MET:
                raise
            return False, None

    def _remove_by_uuid(
        self, uuids: list[str], notes: dict[str, str] | None = None, more: Iterable[dict[str, Any]] = ()
    ) -> int | None:
        if not uuids:
            return None
        operations = list(more)
        for uuid in uuids:
            this = ["set", [["uuid", uuid]]]
            has_this = [["ports", "includes", this]]
            if notes:
                operations += _replace_ids("Bridge", has_this, notes)
            operations.append(mutate("Bridge", has_this, ["ports", "delete", this]))
        # The Port and Interface rows go by themselves: nothing refers to them any more (RFC 7047 section 3.2, isRoot).
        return self.ask_for_notice(*operations)

    def ask_for_notice(self, *changes: dict[str, Any]) -> int | None:
        """Make changes, or none; returns the number to give to `wait_until_configured`."""
        # Raising next_cfg asks ovs-vswitchd to tell, in cur_cfg, when it has caught up.
        raising = mutate("Open_vSwitch", [], ["next_cfg", "+=", 1]), select("Open_vSwitch", [], ["next_cfg"])
        rows = self._results(self._send(*changes, *raising))[-1]["rows"]
        return rows[0]["next_cfg"] if rows else None  # none: somebody emptied the database, so no ovs-vswitchd uses it

    def wait_until_configured(self, number: int | None, deadline: Deadline) -> bool:
        """Wait until ovs-vswitchd has done everything up to `next_cfg` being `number`; False if time runs out."""
        while number is not None:
            (rows,) = self._transact(select("Open_vSwitch", [], ["cur_cfg"]))
            current = rows[0]["cur_cfg"] if rows else number
            if current >= number:
                break
            left = self._milliseconds(deadline)
            if not left:
                return False
            if not self._succeeds(wait("Open_vSwitch", [], "!=", {"cur_cfg": current}, left)):
                return False
        return True

    def wait_until_seen_down(self, name: str, deadline: Deadline) -> bool:
        """Wait until ovs-vswitchd has noticed that an interface of its ports was set down; False if time runs out."""
        this = [["name", "==", name]]
        return self._succeeds(wait("Interface", this, "==", {"admin_state": "down"}, self._milliseconds(deadline)))

    def _milliseconds(self, deadline: Deadline) -> int:
        """How long ovsdb-server may let us wait, so that its answer comes before our time is over."""
        return int(1000 * max(0.0, min(deadline.remaining(), self._client.deadline.remaining() - _ANSWER_SECONDS)))

    def notes(self) -> dict[str, str]:
        """The external_ids of all bridges."""
        (bridges,) = self._transact(select("Bridge", [], ["external_ids"]))
        return {key: value for bridge in bridges for key, value in bridge["external_ids"][1]}

    def forget(self, keys: list[str], *, wait: bool = True) -> None:
        """Take keys, if they are there, out of the external_ids of all bridges.

        The answer is waited for although nothing depends on it: ovsdb-server would warn that it cannot send it. Not to
        `wait` is for a connection that has not answered in time: it is carried out after what was sent before.
        """
        request = self._send(mutate("Bridge", [], ["external_ids", "delete", ["set", keys]]))
        if wait:
            self._results(request)

    def limits_of_network(self, owner_and_network: dict[str, str]) -> list[dict[str, str]]:
        """The external_ids of every QoS and Queue row whose external_ids include these."""
        ours = [["external_ids", "includes", map_of(owner_and_network)]]
        found = self._transact(*(select(table, ours, ["external_ids"]) for table in ("QoS", "Queue")))
        return [dict(row["external_ids"][1]) for rows in found for row in rows]

    def remove_limits(self, identity: dict[str, str]) -> None:
        """Delete QoS and Queue rows of an attachment that has no port."""
        self._results(self._send(*delete_limits(identity)))

    def is_served(self) -> bool:
        """Whether an ovs-vswitchd is running on this database.

        It holds the lock `ovs_vswitchd` as long as it lives. Asking for the lock writes nothing, and giving it back at
        once (or leaving the queue for it) lets an ovs-vswitchd that is just starting have it.
        """
        answer = self._client.call("lock", ["ovs_vswitchd"])
        # Somebody else who asks just now holds it for an instant; then it is our turn at once.
        held = answer == {"locked": False} and not self._client.is_notified("locked", _LOCK_SECONDS)
        self._client.call("unlock", ["ovs_vswitchd"])
        return held

    def _succeeds(self, *operations: dict[str, Any]) -> bool:
        """Carries out a transaction; False, and nothing is done, if a `wait` in it is not met in its time."""
        try:
            self._results(self._send(*operations))
        except TransactionError as error:
            if error.error != NOT_MET:
                raise
            return False
        return True

    def _transact(self, *operations: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """The rows of each of these selects."""
        return [result["rows"] for result in self._results(self._send(*operations))]

    def _send(self, *operations: dict[str, Any]) -> int:
        request = self._client.send_transaction(DATABASE, list(operations))
        self._asked[request] = operations
        return request

    def _results(self, request: int) -> list[dict[str, Any]]:
        """What a request's operations gave, one result each, in the form that each must have."""
        operations = self._asked.pop(request)
        results = self._client.receive_transaction(request)
        if len(results) != len(operations) or not all(map(_is_result, operations, results)):
            raise unknown_form(results)
        return results

    def _ports(self, *conditions: list[Any], probably: str | None = None) -> list[list[Port]]:
        """The ports that meet each of these conditions. If it is the one named, one question is enough."""
        questions = [select_ports(condition) for condition in conditions]
        found = self._transact(*questions, *([select_type(probably), *select_suspects()] if probably else []))
        types = {}
        if probably:
            self.suspects = suspects(found[len(questions) + 1 :], but=probably)
            types[probably] = type_of(found[len(questions)])
            del found[len(questions) :]
        names = {row["name"] for rows in found for row in rows} - types.keys()
        if names:
            interfaces = self._transact(*(select_type(name) for name in names))
            types |= {name: type_of(rows) for name, rows in zip(names, interfaces, strict=True)}
        return [[Port(row, types[row["name"]]) for row in rows] for rows in found]


def _is_result(operation: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether a result has what is read of it: that of `select` rows with all columns, that of `count` a number."""
    if operation["op"] == "update":
        return is_integer(result.get("count"))
    if operation["op"] != "select":
        return True
    rows = result.get("rows")
    return isinstance(rows, list) and all(_has_columns(row, operation["columns"]) for row in rows)


def _has_columns(row: Any, columns: list[str]) -> bool:
    return isinstance(row, dict) and all(name in row and _COLUMNS[name](row[name]) for name in columns)


def _replace_ids(table: str, where: list[Any], external_ids: dict[str, str]) -> list[dict[str, Any]]:
    """The operations that put these into rows' external_ids; `insert` alone would keep an older value of a key."""
    return [
        mutate(table, where, ["external_ids", "delete", ["set", list(external_ids)]]),
        mutate(table, where, ["external_ids", "insert", map_of(external_ids)]),
    ]


def _delete_limits(ports: list[Port]) -> list[dict[str, Any]]:
    """The operations that delete what only ports refer to and would stay (RFC 7047 section 3.2, isRoot)."""
    limited = [port.external_ids for port in ports if port.external_ids.get(RATE_LIMITER) == QOS_ROW]
    return [operation for identity in map(identity_of, limited) if identity for operation in delete_limits(identity)]


def delete_limits(identity: dict[str, str]) -> list[dict[str, Any]]:
    """The operations that delete an attachment's QoS and Queue rows."""
    whose = [["external_ids", "includes", map_of(identity)]]
    # A port that goes with the transaction still refers to its QoS row, and must not.
    no_reference = {"op": "update", "table": "Port", "where": whose, "row": {"qos": ["set", []]}}
    return [no_reference, *({"op": "delete", "table": table, "where": whose} for table in ("QoS", "Queue"))]


def _is_unchanged(port: Port) -> dict[str, Any]:
    """The condition that a port is there, with the external_ids that were read."""
    this = [["_uuid", "==", ["uuid", port.uuid]]]
    return wait("Port", this, "==", {"external_ids": map_of(port.external_ids)}, 0)


def bridge_not_found(bridge: str) -> CniError:
    """The error for a bridge that is not there."""
    return CniError(
        BRIDGE_NOT_FOUND, f"bridge {bridge!r} does not exist in Open vSwitch", f"create it: ovs-vsctl add-br {bridge}"
    )


def type_of(interfaces: list[dict[str, Any]]) -> str | None:
    """The type in what `select_type` found; None if there is no such interface."""
    return interfaces[0]["type"] if interfaces else None


def select_bridge(name: str, *more: str) -> dict[str, Any]:
    """The question for a bridge, perhaps with more columns; `is_made` understands the answer."""
    return select("Bridge", [["name", "==", name]], ["name", "datapath_type", "datapath_id", *more])


def is_made(bridge: dict[str, Any]) -> bool:
    """Whether ovs-vswitchd has made a bridge: it writes the datapath's id when it has."""
    return optional(bridge["datapath_id"]) is not None


def select_suspects() -> list[dict[str, Any]]:
    """The questions for the interfaces that ovs-vswitchd has no device for; `suspects` understands the answers.

    What it says of a port whose container is gone depends on the datapath, and on whether it was restarted since.
    """
    return [
        # It could not open the device.
        select("Interface", [["ofport", "==", -1]], ["name"]),
        # It had a device, which has vanished.
        select("Interface", [["type", "==", ""], ["ifindex", "==", 0]], ["name"]),
        # It has made a new device for an internal port or a tap, and nobody has moved that into a container.
        select("Interface", [["type", "!=", ""], ["admin_state", "==", "down"], ["ifindex", "!=", 0]], ["name"]),
    ]


def suspects(found: list[list[dict[str, Any]]], *, but: str) -> list[str]:
    """The names that are like ours in what `select_suspects` has found, without one."""
    names = {row["name"] for rows in found for row in rows}
    return [name for name in names if name != but and is_port_name(name)]


def select_type(name: str) -> dict[str, Any]:
    """The question for the type of an interface."""
    return select("Interface", [["name", "==", name]], ["type"])


def select_ports(where: list[Any]) -> dict[str, Any]:
    """The question for the ports that meet a condition, with the columns that Port needs."""
    return select("Port", where, ["_uuid", "name", "external_ids", "tag", "trunks", "cvlans", "vlan_mode"])
