"""Inserting one port into Open vSwitch: what ADD needs of it beyond vswitch.py.

Questions are sent first and their answers waited for later, so that other work is done in between.
"""

from __future__ import annotations

import posix

from .attachment import FLOWS
from .errors import NAME_TAKEN, PORT_REFUSED, TRY_AGAIN_LATER, CniError
from .ovsdb import TransactionError, count, map_of, mutate, optional, references, select, wait
from .vswitch import (
    START_VSWITCHD,
    USERSPACE,
    Port,
    Vswitch,
    bridge_not_found,
    delete_limits,
    is_made,
    select_bridge,
    select_ports,
    select_suspects,
    select_type,
    suspects,
    type_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .attachment import Attachment
    from .config import NetworkConfig
    from .deadline import Deadline
    from .devices import Device

# What is kept of a deadline for finding out why ovs-vswitchd did not answer, and for saying so.
_DIAGNOSIS_SECONDS = 0.2
# From so many interfaces on, ovs-vswitchd is told of a port before its device is made (see `has_many_ports`). It opens
# new devices only after it has gone through all the ports that it has, and we make the device a millisecond after the
# row. With 100, 250, 500, 1,000 and 4,000 ports, a device came in time that was made 1, 3, 20, 40 and 200 ms after it
# (Open vSwitch 3.1, two cores, 2026-11-24); with 50, one that was made after 1 ms did not. The margin is wide because
# with many ADDs at once a process may have to wait for a core in between. It only costs time if it is too narrow.
_MANY = 1000


class Insertion(Vswitch):
    """Open vSwitch, and a port that is to be inserted into one of its bridges. Making it asks whether it can be.

    Args:
        config: the network's; its `socket_file` is where Open vSwitch is.
        attachment: what the port is for.
        device: of which kind the port is.
        deadline: as for Vswitch.

    Attributes:
        has_many_ports: whether ovs-vswitchd has so many ports that going through them takes long. `prepare` sets it.
        number: the port's OpenFlow number. `finish` sets it.
        limits_rates: whether Open vSwitch can limit `bandwidth`. `prepare` sets it.
        open_vswitch: what the device asks of the Open_vSwitch row. `prepare` sets it.
    """

    def __init__(self, config: NetworkConfig, attachment: Attachment, device: Device, deadline: Deadline) -> None:
        super().__init__(config.socket_file, deadline)
        self._config = config
        self._attachment = attachment
        self._insertion: int | None = None  # the request for the rows, as long as its answer is not known
        self._question: int | None = None  # that for the OpenFlow number
        self._inserted: str | None = None  # UUID of the Port row that was sent
        self.has_many_ports = False
        self._customer_vlans = config.vlans is not None and bool(config.vlans.cvlans)
        more = ["other_config"] if self._customer_vlans else []
        more += ["external_ids"] if config.ovn_port is not None else []
        self._device = device
        more += [column for column in self._device.COLUMNS if column not in more]
        self.open_vswitch: dict[str, Any] = {}
        self._is_ovns = False  # the bridge
        self.limits_rates = False
        self.number = 0
        name = attachment.port_name
        self._preparation = self._send(
            count("Interface"),
            select_bridge(config.bridge, *(("controller", "fail_mode") if config.checks_spoofing else ())),
            select_ports([["name", "==", name]]),
            select_type(name),
            select("Open_vSwitch", [], ["next_cfg", "cur_cfg", *more]),
            *select_suspects(),
        )

    def prepare(self) -> tuple[str, Port | None]:
        """The datapath type of the port's bridge, and the port that has its name already.

        Raises:
            CniError: BRIDGE_NOT_FOUND; INVALID_CONFIG, for `cvlans` that would not be seen; TRY_AGAIN_LATER, when
                ovs-vswitchd has not done earlier changes in time.
        """
        counted, *selected = self._results(self._preparation)
        bridges, ports, interfaces, counters, *found = [result["rows"] for result in selected]
        self.suspects = suspects(found, but=self._attachment.port_name)
        self.has_many_ports = counted["count"] >= _MANY
        if not counters:
            raise CniError(TRY_AGAIN_LATER, "Open vSwitch's database is not initialised yet", "start Open vSwitch")
        self.open_vswitch = counters[0]
        if not bridges:
            raise bridge_not_found(self._config.bridge)
        if self._customer_vlans:
            from . import vlans  # noqa: PLC0415 - start-up time, for something rare

            vlans.refuse_unseen_customer_vlans(dict(counters[0]["other_config"][1]))
        if self._config.ovn_port is not None:
            from . import ovn  # noqa: PLC0415 - start-up time, for a port without OVN

            self._is_ovns = ovn.has_bridge(dict(counters[0]["external_ids"][1]), self._config.bridge)
        if self._config.checks_spoofing:
            from . import spoofing  # noqa: PLC0415 - start-up time, for a port without rules

            has_controller = bool(references(bridges[0]["controller"]))
            spoofing.refuse(self._config, has_controller=has_controller, fail_mode=optional(bridges[0]["fail_mode"]))
        if self._config.bandwidth is not None:
            from . import bandwidth  # noqa: PLC0415 - start-up time, for a port without limits

            kind = self._config.interface_type
            self.limits_rates = bandwidth.is_open_vswitchs(kind, bridges[0]["datapath_type"])
        # Perhaps a DEL has just removed a port of this name (`remove` raises next_cfg). As long as ovs-vswitchd has not
        # seen that, a new row of the same name is the old port to it: it would go on with a device that is gone, and
        # report the old OpenFlow number for it.
        wanted = counters[0]["next_cfg"]
        waiting = self._client.deadline.shorter(self._patience())
        if counters[0]["cur_cfg"] < wanted and not self.wait_until_configured(wanted, waiting):
            raise self._not_answered("carried out earlier changes")
        if not is_made(bridges[0]):
            # Without this, ADD would wait for the port until its time is over.
            raise self._not_answered(f"made bridge {self._config.bridge!r}", _not_made_hint(bridges[0]))
        return bridges[0]["datapath_type"], Port(ports[0], type_of(interfaces)) if ports else None

    def begin(self) -> None:
        """Send the port, and wait for nothing."""
        name = self._attachment.port_name
        interface: dict[str, Any] = {"name": name, **self._device.columns(self._attachment, self._config)}
        if self._config.ofport_request is not None:
            interface["ofport_request"] = self._config.ofport_request
        if self._config.ovn_port is not None:
            from . import ovn  # noqa: PLC0415 - see `prepare`

            interface["external_ids"] = map_of({ovn.PORT_ID: self._config.ovn_port})
        port: dict[str, Any] = {
            "name": name,
            "interfaces": ["named-uuid", "interface"],
            "external_ids": map_of({**self._config.external_ids, **self._attachment.external_ids}),
        }
        if self._config.checks_spoofing:
            port["external_ids"][1].append([FLOWS, self._config.bridge])
        rows: list[dict[str, Any]] = []
        if self._config.bandwidth is not None:
            rows = self._limit(port, interface)
        if self._config.vlans is not None:
            port |= self._config.vlans.columns()
        this_bridge = [["name", "==", self._config.bridge]]
        # The row's UUID is chosen here (ovsdb-server(7) section 5.2.1), so that it can be removed again without waiting
        # for an answer to this.
        self._inserted = _random_uuid()
        self._insertion = self._send(
            # Without this, a bridge that was removed in the meantime would go unnoticed: the mutation below would match
            # nothing, and the unreferenced rows would vanish when the transaction ends.
            wait("Bridge", this_bridge, "==", {"name": self._config.bridge}, 0),
            *rows,
            {"op": "insert", "table": "Interface", "uuid-name": "interface", "row": interface},
            {"op": "insert", "table": "Port", "uuid": self._inserted, "row": port},
            mutate("Bridge", this_bridge, ["ports", "insert", ["set", [["uuid", self._inserted]]]]),
        )

    def _limit(self, port: dict[str, Any], interface: dict[str, Any]) -> list[dict[str, Any]]:
        """Put what limits the port's rates into its rows; returns the rows to insert besides."""
        from . import bandwidth  # noqa: PLC0415 - see `prepare`

        wanted = self._config.bandwidth
        if wanted is None:
            return []
        port["external_ids"][1] += list(map(list, bandwidth.recorded(wanted, open_vswitchs=self.limits_rates).items()))
        if not self.limits_rates:
            return []
        rows, of_port, of_interface = bandwidth.columns(wanted, self._attachment.identity, self._config.interface_type)
        port |= of_port
        interface |= of_interface
        return rows

    def confirm(self) -> None:
        """Wait until the port is in the database, which tells ovs-vswitchd of it in the same moment.

        Raises:
            CniError: BRIDGE_NOT_FOUND, NAME_TAKEN.
        """
        if self._insertion is None:
            return
        request, self._insertion = self._insertion, None
        try:
            self._results(request)
        except TransactionError as error:
            if error.error not in ("timed out", "constraint violation"):
                raise
            self._inserted = None  # there is nothing to withdraw
            if error.error == "timed out":
                raise bridge_not_found(self._config.bridge) from error
            name = self._attachment.port_name
            raise CniError(
                NAME_TAKEN, f"Open vSwitch has an interface or port {name!r} already", error.details
            ) from error

    def ask(self) -> None:
        """Send the question which OpenFlow number ovs-vswitchd has given the port. `finish` waits for the answer."""
        # ovsdb-server begins one connection's requests in their order, so this one sees the row that was sent before.
        this = [["name", "==", self._attachment.port_name]]
        milliseconds = max(1, int(self._patience() * 1000))
        self._question = self._send(
            wait("Interface", this, "!=", {"ofport": ["set", []]}, milliseconds), self._select_ofport()
        )

    def finish(self) -> None:
        """Wait until ovs-vswitchd has given the port an OpenFlow number, and OVN, if the bridge is its own, the flows.

        Raises:
            CniError: as `confirm`; PORT_REFUSED with ovs-vswitchd's own words; TRY_AGAIN_LATER when it, or OVN's
                ovn-controller, gave no answer in time.
        """
        name = self._attachment.port_name
        self.confirm()
        if self._question is None:
            raise RuntimeError("finish without ask")
        try:
            rows = self._results(self._question)[1]["rows"]
        except TransactionError as error:
            if error.error != "timed out":
                raise
            raise self._not_answered(f"taken port {name!r}") from error
        if _is_refused(rows):
            # Perhaps it looked before there was a device. That is final only when it has looked once more since.
            number = self.ask_for_notice()
            if not self.wait_until_configured(number, self._client.deadline.shorter(self._patience())):
                raise self._not_answered(f"taken port {name!r}")
            (rows,) = self._transact(self._select_ofport())
        if not rows:
            raise CniError(TRY_AGAIN_LATER, f"port {name!r} was removed while it was being attached")
        if _is_refused(rows):
            reason = optional(rows[0]["error"]) or "it gives no reason; see its log"
            raise CniError(
                PORT_REFUSED, f"ovs-vswitchd refused port {name!r} on bridge {self._config.bridge!r}", str(reason)
            )
        self.number = rows[0]["ofport"]
        if self._is_ovns:
            self._wait_for_ovn()

    def _wait_for_ovn(self) -> None:
        """Wait until the flows are there without which OVN's bridge forwards nothing for the port."""
        from . import ovn  # noqa: PLC0415 - see `prepare`

        name = self._attachment.port_name
        done = [["name", "==", name], ["external_ids", "includes", map_of(ovn.INSTALLED)]]
        milliseconds = max(1, int(self._patience() * 1000))
        if not self._succeeds(wait("Interface", done, "==", {"name": name}, milliseconds)):
            what = f"ovn-controller has not installed logical port {self._config.ovn_port!r} in time"
            raise CniError(TRY_AGAIN_LATER, what, ovn.HINT)

    def withdraw(self, notes: dict[str, str] | None = None) -> int | None:
        """Take back what `begin` sent, however far it came; returns what `remove` returns. `notes` as there."""
        # Whatever became of the insertion, this is carried out after it, even if the answers come too late for us.
        if self._inserted is None:
            return None
        limits = delete_limits(self._attachment.identity) if self.limits_rates else []
        return self._remove_by_uuid([self._inserted], notes, limits)

    def _patience(self) -> float:
        """How many seconds to wait for ovs-vswitchd."""
        left = self._client.deadline.remaining() - _DIAGNOSIS_SECONDS
        return max(0.001, left if self._config.link_wait is None else min(left, self._config.link_wait))

    def _select_ofport(self) -> dict[str, Any]:
        return select("Interface", [["name", "==", self._attachment.port_name]], ["ofport", "error"])

    def _not_answered(self, what: str, hint: str = "it did not answer in time; see its log") -> CniError:
        if not self.is_served():
            return CniError(TRY_AGAIN_LATER, f"ovs-vswitchd has not {what}: it is not running", START_VSWITCHD)
        return CniError(TRY_AGAIN_LATER, f"ovs-vswitchd has not {what}", hint)


def _is_refused(interfaces: list[dict[str, Any]]) -> bool:
    return any(optional(row["ofport"]) in (None, -1) or optional(row["error"]) for row in interfaces)


def _random_uuid() -> str:
    """A UUID of version 4 (RFC 4122); the module `uuid` would be slow to import."""
    value = int.from_bytes(posix.urandom(16), "big") & ~(0xF000 << 64) & ~(3 << 62) | 0x4000 << 64 | 2 << 62
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _not_made_hint(bridge: dict[str, Any]) -> str:
    """What to do about a bridge that ovs-vswitchd cannot make."""
    if bridge["datapath_type"] == USERSPACE:
        return "see its log"
    command = f"ovs-vsctl set bridge {bridge['name']} datapath_type={USERSPACE}"
    return f"see its log; where the kernel has no Open vSwitch module: {command}"
