"""The types `ovs-mirror-producer` and `ovs-mirror-consumer`: behind `ovs` in a chain, they give its port to mirrors.

A mirror of Open vSwitch (the table Mirror of ovs-vswitchd.conf.db(5)) copies what passes its source ports to one output
port. A producer makes the container's port a source, a consumer makes it the output port; whoever comes first makes the
mirror, and who leaves it empty removes it, if a CNI plugin has made it.
"""

from __future__ import annotations

from . import attachment as attachments
from . import forms, log, status
from .errors import BRIDGE_NOT_FOUND, CHECK_FAILED, INVALID_CONFIG, NAME_TAKEN, TRY_AGAIN_LATER, CniError
from .jsontext import shown
from .ovsdb import TransactionError, map_of, mutate, optional, references, select, wait
from .vswitch import NOT_MET, OVS_CNI, Port, Vswitch, bridge_not_found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .attachment import Attachment
    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation

PRODUCER, CONSUMER = "ovs-mirror-producer", "ovs-mirror-consumer"
_SOURCES = ("select_src_port", "select_dst_port")
_COLUMNS = ["_uuid", "name", "external_ids", *_SOURCES, "output_port", "output_vlan"]


class Wanted:
    """What the configuration says of one mirror.

    Attributes:
        name: of the mirror; its bridge has at most one of that name.
        sources: which of _SOURCES the port becomes part of: what comes from the container (`ingress`, because it enters
            the switch), what goes to it (`egress`); none for a consumer.
        output_vlan: the VLAN that copies are sent in, instead of to an output port; None if there is none.
    """

    __slots__ = ("name", "output_vlan", "sources")

    def __init__(self, item: Any, role: str) -> None:
        """Takes an element of the list `mirrors`; ValueError says what is allowed."""
        if not isinstance(item, dict):
            raise ValueError('must be a list of {"name": …, "ingress": true, "egress": true}')
        self.name = forms.text(item.get("name", ""))
        if not self.name:
            raise ValueError(f"{shown(item)}: a mirror needs a 'name'")
        chosen = [item.get(key, False) for key in ("ingress", "egress")]
        if not all(isinstance(value, bool) for value in chosen):
            raise ValueError(f"{shown(item)}: 'ingress' and 'egress' must be true or false")
        vlan = item.get("output_vlan")
        self.output_vlan = None if vlan is None else forms.integer(1, 4094)(vlan)
        if role == CONSUMER:
            if self.output_vlan is not None:
                raise ValueError(f"{shown(item)}: a mirror with 'output_vlan' has no consumer")
            chosen = [False, False]
        elif not any(chosen):
            raise ValueError(f"{shown(item)}: a producer needs 'ingress' or 'egress', or both, to be true")
        self.sources = [column for column, is_chosen in zip(_SOURCES, chosen, strict=True) if is_chosen]


class Mirror:
    """A Mirror row."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row = row
        self.uuid: str = row["_uuid"][1]
        self.name: str = row["name"]
        self.ports: dict[str, list[str]] = {column: references(row[column]) for column in (*_SOURCES, "output_port")}
        self.output_vlan: int | None = optional(row["output_vlan"])
        # Its maker. Those of ovs-cni are removed as well: a node may be switched over under running pods.
        self.is_a_plugins = dict(row["external_ids"][1]).get("owner") in (attachments.OWNER, OVS_CNI)

    @property
    def is_empty(self) -> bool:
        """Whether it copies nothing, and nobody waits for copies."""
        return not any(self.ports.values())

    def unchanged(self) -> dict[str, Any]:
        """The condition that it is there, with the ports that were read."""
        this = [["_uuid", "==", ["uuid", self.uuid]]]
        return wait("Mirror", this, "==", {column: self.row[column] for column in self.ports}, 0)


class Mirrors(Vswitch):
    """Open vSwitch, and the mirrors of one bridge."""

    def __init__(self, config: NetworkConfig, deadline: Deadline) -> None:
        super().__init__(config.socket_file, deadline)
        self._bridge = config.bridge

    def attach(self, port: Port, wanted: list[Wanted], role: str) -> int | None:
        """Give a port to mirrors, and make those that are missing, all in one transaction.

        Returns:
            The number to give to `wait_until_configured`.

        Raises:
            CniError: BRIDGE_NOT_FOUND; NAME_TAKEN, when a mirror has another output already; INVALID_CONFIG, when the
                port is not on the bridge.
        """
        while True:
            unchanged, present = self._present([mirror.name for mirror in wanted])
            this_port = ["uuid", port.uuid]
            this_ports = [*self._this, ["ports", "includes", this_port]]
            operations = [unchanged, wait("Bridge", this_ports, "==", {"name": self._bridge}, 0)]
            for number, mirror in enumerate(wanted):
                row: dict[str, Any] = dict.fromkeys(mirror.sources, this_port)
                if role == CONSUMER:
                    row["output_port"] = this_port
                if mirror.output_vlan is not None:
                    row["output_vlan"] = mirror.output_vlan
                found = present.get(mirror.name)
                if found is None:
                    row |= {"name": mirror.name, "external_ids": map_of({"owner": attachments.OWNER})}
                    new = f"mirror{number}"
                    operations += [
                        {"op": "insert", "table": "Mirror", "uuid-name": new, "row": row},
                        mutate("Bridge", self._this, ["mirrors", "insert", ["named-uuid", new]]),
                    ]
                else:
                    _refuse_other_output(found, mirror, port, role)
                    this_mirror = [["_uuid", "==", ["uuid", found.uuid]]]
                    operations += [mutate("Mirror", this_mirror, [c, "insert", this_port]) for c in mirror.sources]
                    output = {key: value for key, value in row.items() if key.startswith("output")}
                    if output:
                        operations.append(found.unchanged())
                        operations.append({"op": "update", "table": "Mirror", "where": this_mirror, "row": output})
            done, notice = self._try(operations)
            if done:
                return notice
            if not self._transact(select("Bridge", this_ports, ["name"]))[0]:
                raise CniError(INVALID_CONFIG, f"port {port.name!r} is not on bridge {self._bridge!r}")

    def detach(self, port: Port | None, names: list[str], role: str) -> None:
        """Take a port, if it is still there, out of mirrors, and remove those of these names that are empty then."""
        columns = _SOURCES if role == PRODUCER else ("output_port",)
        while True:
            try:
                _, present = self._present(names)
            except CniError as error:
                if error.code == BRIDGE_NOT_FOUND:
                    return  # its mirrors have gone with it
                raise
            operations = []
            for mirror in present.values():
                this_mirror = [["_uuid", "==", ["uuid", mirror.uuid]]]
                changes = []
                for column in columns:
                    if port is not None and port.uuid in mirror.ports[column]:
                        mirror.ports[column].remove(port.uuid)
                        changes.append(mutate("Mirror", this_mirror, [column, "delete", ["uuid", port.uuid]]))
                if mirror.is_empty and mirror.is_a_plugins:
                    this = ["uuid", mirror.uuid]
                    changes = [mutate("Bridge", [["mirrors", "includes", this]], ["mirrors", "delete", this])]
                    log.info(f"removing mirror {mirror.name!r} of bridge {self._bridge!r}, which is empty")
                if changes:
                    operations += [mirror.unchanged(), *changes]
            if not operations or self._try(operations)[0]:
                return

    def of(self, names: list[str]) -> dict[str, Mirror]:
        """The bridge's mirrors of these names."""
        return self._present(names)[1]

    @property
    def _this(self) -> list[Any]:
        return [["name", "==", self._bridge]]

    def _present(self, names: list[str]) -> tuple[dict[str, Any], dict[str, Mirror]]:
        """The condition that the bridge's mirrors are unchanged, and those of these names."""
        questions = [select("Mirror", [["name", "==", name]], _COLUMNS) for name in names]
        bridges, *found = self._transact(select("Bridge", self._this, ["mirrors"]), *questions)
        if not bridges:
            raise bridge_not_found(self._bridge)
        ours = references(bridges[0]["mirrors"])
        mirrors = [Mirror(row) for rows in found for row in rows if row["_uuid"][1] in ours]
        unchanged = wait("Bridge", self._this, "==", {"mirrors": bridges[0]["mirrors"]}, 0)
        return unchanged, {mirror.name: mirror for mirror in mirrors}

    def _try(self, operations: list[dict[str, Any]]) -> tuple[bool, int | None]:
        """Carry out a transaction; whether its conditions were met, and the number for `wait_until_configured`."""
        try:
            return True, self.ask_for_notice(*operations)
        except TransactionError as error:
            if error.error != NOT_MET:
                raise
            # Somebody else was faster; he has got on, so this cannot go on for ever.
            return False, None


def run(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> dict[str, Any] | None:
    """Carry out a command; returns the result of ADD, which is that of the plugin before us, whole.

    Raises:
        CniError: as the commands of `ovs`.
    """
    if invocation.command == "STATUS":
        status.run(invocation, config, deadline)
        return None
    role = config.type
    wanted = config.mirrors
    mirrors = Mirrors(config, deadline)
    if invocation.command == "GC":
        mirrors.detach(None, [mirror.name for mirror in wanted], role)
        return None
    attachment = attachments.of(invocation, config)
    if invocation.command == "DEL":
        ports = mirrors.ports_of(attachment)[0]
        mirrors.detach(ports[0] if ports else None, [mirror.name for mirror in wanted], role)
        return None
    if config.prev_result is None:
        raise CniError(INVALID_CONFIG, f"required prevResult missing: {role} goes behind 'ovs' in a chain")
    port = _port(mirrors, attachment, config)
    if invocation.command == "CHECK":
        _check(mirrors.of([mirror.name for mirror in wanted]), port, wanted, role)
        return None
    number = mirrors.attach(port, wanted, role)
    if not mirrors.wait_until_configured(number, deadline):
        mirrors.use(deadline.unstoppable(1))
        mirrors.detach(port, [mirror.name for mirror in wanted], role)
        raise CniError(TRY_AGAIN_LATER, "ovs-vswitchd has not begun to mirror in time", "see its log")
    return {**config.prev_result, "cniVersion": invocation.version}


def of_producer(value: Any) -> list[Wanted]:
    """What the key `mirrors` of a producer says; ValueError says what is allowed."""
    return _read(value, PRODUCER)


def of_consumer(value: Any) -> list[Wanted]:
    """The same for a consumer."""
    return _read(value, CONSUMER)


def _read(value: Any, role: str) -> list[Wanted]:
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list of {"name": …, "ingress": true, "egress": true}')
    wanted = [Wanted(item, role) for item in value]
    names = [mirror.name for mirror in wanted]
    if len(set(names)) < len(names):
        raise ValueError("names a mirror twice")
    return wanted


def _port(mirrors: Mirrors, attachment: Attachment, config: NetworkConfig) -> Port:
    """The container's port."""
    found = mirrors.ports_of(attachment)[0]
    if not found:
        raise CniError(INVALID_CONFIG, f"interface {attachment.ifname!r} has no port in network {attachment.network!r}")
    return found[0]


def _refuse_other_output(found: Mirror, mirror: Wanted, port: Port, role: str) -> None:
    others = [uuid for uuid in found.ports["output_port"] if uuid != port.uuid]
    if role == CONSUMER and (others or found.output_vlan is not None):
        what = "a consumer" if others else f"output VLAN {found.output_vlan}"
        raise CniError(NAME_TAKEN, f"mirror {mirror.name!r} has {what} already")
    if mirror.output_vlan is None:
        return
    if found.ports["output_port"] or found.output_vlan not in (None, mirror.output_vlan):
        what = "a consumer" if found.ports["output_port"] else f"output VLAN {found.output_vlan}"
        raise CniError(NAME_TAKEN, f"mirror {mirror.name!r} has {what} already, so it cannot have {mirror.output_vlan}")


def _check(present: dict[str, Mirror], port: Port, wanted: list[Wanted], role: str) -> None:
    for mirror in wanted:
        found = present.get(mirror.name)
        if found is None:
            raise CniError(CHECK_FAILED, f"mirror {mirror.name!r} is missing in Open vSwitch")
        expected = {column: column in mirror.sources for column in _SOURCES}
        if role == CONSUMER:
            expected = {"output_port": True}
        for column, is_in in expected.items():
            if (port.uuid in found.ports[column]) is not is_in:
                state = "is missing in" if is_in else "is in"
                raise CniError(CHECK_FAILED, f"port {port.name!r} {state} {column} of mirror {mirror.name!r}")
        if mirror.output_vlan is not None and found.output_vlan != mirror.output_vlan:
            raise CniError(
                CHECK_FAILED,
                f"output VLAN of mirror {mirror.name!r} differs:"
                f" expected {mirror.output_vlan}, found {found.output_vlan}",
            )
