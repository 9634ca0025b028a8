"""What is in Open vSwitch's database: bridges, ports and interfaces at one moment, read with the `ovs` library's IDL.

The columns are described in ovs-vswitchd.conf.db(5). Only what reads uses this; what changes something is the plugin's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ovs.poller
import ovs.vlog
from ovs.db import idl as ovs_idl

from cni_ovs.plugin.attachment import OWNER
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.ovsdb import Client
from cni_ovs.plugin.vswitch import DATABASE, OVS_CNI

from .failure import Failure

_SECONDS = 5.0

_COLUMNS = {
    "Open_vSwitch": (
        *("bridges", "ovs_version", "db_version", "next_cfg", "cur_cfg", "external_ids", "other_config"),
        *("iface_types", "datapath_types", "dpdk_initialized"),
    ),
    "Bridge": (
        *("name", "ports", "datapath_type", "datapath_id", "fail_mode", "controller", "mirrors"),
        *("external_ids", "other_config", "stp_enable", "rstp_enable"),
    ),
    "Port": (
        *("name", "interfaces", "tag", "trunks", "cvlans", "vlan_mode", "external_ids", "other_config", "qos"),
        *("bond_mode", "lacp"),
    ),
    "Interface": (
        *("name", "type", "ofport", "ofport_request", "error", "mac", "mac_in_use", "mtu", "mtu_request", "ifindex"),
        *("admin_state", "link_state", "link_speed", "options", "external_ids", "statistics", "status"),
        *("ingress_policing_rate", "ingress_policing_burst"),
    ),
    "Controller": ("target", "is_connected"),
    "Mirror": (
        *("name", "select_all", "select_src_port", "select_dst_port", "select_vlan", "output_port", "output_vlan"),
    ),
    "QoS": ("type", "other_config", "external_ids"),
}


@dataclass(frozen=True)
class Interface:
    """A row of the table Interface; None where Open vSwitch says nothing."""

    name: str
    type: str
    ofport: int | None
    ofport_request: int | None
    error: str | None
    mac: str | None
    mac_in_use: str | None
    mtu: int | None
    mtu_request: int | None
    ifindex: int | None
    admin_state: str | None
    link_state: str | None
    link_speed: int | None
    ingress_policing_rate: int
    ingress_policing_burst: int
    options: dict[str, str]
    external_ids: dict[str, str]
    statistics: dict[str, int]
    status: dict[str, str]


@dataclass(frozen=True)
class Port:
    """A row of the table Port, with its interfaces: one, but for a bond."""

    uuid: str
    name: str
    tag: int | None
    trunks: list[int]
    cvlans: list[int]
    vlan_mode: str | None
    bond_mode: str | None
    external_ids: dict[str, str]
    other_config: dict[str, str]
    qos: dict[str, str] | None  # other_config of its QoS row
    interfaces: list[Interface]

    @property
    def interface(self) -> Interface | None:
        """The interface, or the first one of a bond; None for a port that has none (Open vSwitch allows none)."""
        return self.interfaces[0] if self.interfaces else None

    @property
    def is_ours(self) -> bool:
        """Whether cni-ovs has attached it."""
        return self.external_ids.get("owner") == OWNER

    @property
    def is_of_ovs_cni(self) -> bool:
        """Whether ovs-cni has attached it."""
        return self.external_ids.get("owner") == OVS_CNI


@dataclass(frozen=True)
class Mirror:
    """A row of the table Mirror, with the names of ports."""

    name: str
    sources: list[str]
    destinations: list[str]
    output: str | None
    output_vlan: int | None
    everything: bool = False  # it copies all packets of the bridge
    vlans: list[int] = field(default_factory=list)  # of what it copies; all if there are none


@dataclass(frozen=True)
class Bridge:
    """A row of the table Bridge, with its ports, sorted by name."""

    name: str
    datapath_type: str
    datapath_id: str | None
    fail_mode: str | None
    controllers: list[str]
    external_ids: dict[str, str]
    other_config: dict[str, str]
    ports: list[Port]
    mirrors: list[Mirror] = field(default_factory=list)


@dataclass(frozen=True)
class OpenVSwitch:
    """The row of the table Open_vSwitch, with its bridges, sorted by name."""

    ovs_version: str | None
    db_version: str | None
    next_cfg: int
    cur_cfg: int
    external_ids: dict[str, str]
    other_config: dict[str, str]
    iface_types: list[str]
    datapath_types: list[str]
    dpdk_initialized: bool
    bridges: list[Bridge]

    def ports(self) -> Iterator[tuple[Bridge, Port]]:
        """Every port of every bridge."""
        for bridge in self.bridges:
            for port in bridge.ports:
                yield bridge, port

    def attached(self) -> Iterator[tuple[Bridge, Port]]:
        """Every port that cni-ovs has attached."""
        return ((bridge, port) for bridge, port in self.ports() if port.is_ours)

    def bridge(self, name: str) -> Bridge | None:
        """The bridge of that name."""
        return next((bridge for bridge in self.bridges if bridge.name == name), None)


class Database:
    """A connection to Open vSwitch's database that follows its changes.

    Args:
        address: "unix:PATH" or "tcp:ADDRESS:PORT".
        seconds: how long to wait for an answer.

    Raises:
        CniError: nobody answers there.
        Failure: it does not answer in time, or it is no database of Open vSwitch.
    """

    def __init__(self, address: str, seconds: float = _SECONDS) -> None:
        self.address = address
        deadline = Deadline(seconds)
        schema = _schema(address, deadline)
        helper = ovs_idl.SchemaHelper(schema_json=schema)
        for table, columns in _COLUMNS.items():  # an older Open vSwitch has fewer
            there = schema["tables"][table]["columns"] if table in schema["tables"] else {}
            if there:
                helper.register_columns(table, [name for name in columns if name in there])
        self._idl = ovs_idl.Idl(address, helper)
        while not self._idl.has_ever_connected():
            if not deadline.remaining():
                raise Failure(f"ovsdb-server at {address} does not answer in {seconds:g} s", "see its log")
            self.wait(min(0.1, deadline.remaining()), until=self._idl.has_ever_connected)

    def close(self) -> None:
        """Close the connection."""
        self._idl.close()

    @property
    def version(self) -> int:
        """A number that is another one when something has changed."""
        return int(self._idl.change_seqno)

    @property
    def is_connected(self) -> bool:
        """Whether ovsdb-server is there now. When it comes back, the connection is made again by `wait`."""
        return bool(self._idl._session.is_connected())  # the library has no public name for it

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take in what changes within some seconds, or until something is so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._idl.run()
            if until():
                return
            poller = ovs.poller.Poller()
            self._idl.wait(poller)
            poller.timer_wait(max(1, int((end - time.monotonic()) * 1000)))
            poller.block()

    def read(self) -> OpenVSwitch:
        """What is in the database now.

        Raises:
            Failure: it is empty.
        """
        self._idl.run()
        for row in self._idl.tables["Open_vSwitch"].rows.values():
            return _open_vswitch(row)
        raise Failure(f"Open vSwitch's database at {self.address} is not initialised", "start Open vSwitch")


def read(address: str) -> OpenVSwitch:
    """What is in the database now; errors as of Database."""
    database = Database(address)
    try:
        return database.read()
    finally:
        database.close()


def _schema(address: str, deadline: Deadline) -> Any:
    ovs.vlog.Vlog.init()
    ovs.vlog.Vlog.set_levels_from_string("console:off")
    client = Client(address, deadline)
    try:
        schema = client.call("get_schema", [DATABASE])
    finally:
        client.close()
    if not isinstance(schema, dict) or "Bridge" not in schema.get("tables", {}):
        raise Failure(f"what answers at {address} is no database of Open vSwitch", "see --db")
    return schema


def _open_vswitch(row: Any) -> OpenVSwitch:
    bridges = sorted((_bridge(bridge) for bridge in row.bridges), key=lambda bridge: bridge.name)
    return OpenVSwitch(
        ovs_version=_one(row, "ovs_version"),
        db_version=_one(row, "db_version"),
        next_cfg=row.next_cfg,
        cur_cfg=row.cur_cfg,
        external_ids=dict(row.external_ids),
        other_config=dict(row.other_config),
        iface_types=sorted(_column(row, "iface_types", [])),
        datapath_types=sorted(_column(row, "datapath_types", [])),
        dpdk_initialized=_column(row, "dpdk_initialized", False),
        bridges=bridges,
    )


def _bridge(row: Any) -> Bridge:
    return Bridge(
        name=row.name,
        datapath_type=row.datapath_type,
        datapath_id=_one(row, "datapath_id"),
        fail_mode=_one(row, "fail_mode"),
        controllers=sorted(controller.target for controller in row.controller),
        external_ids=dict(row.external_ids),
        other_config=dict(row.other_config),
        ports=sorted(map(_port, row.ports), key=lambda port: port.name),
        mirrors=sorted(map(_mirror, row.mirrors), key=lambda mirror: mirror.name),
    )


def _port(row: Any) -> Port:
    return Port(
        uuid=str(row.uuid),
        name=row.name,
        tag=_one(row, "tag"),
        trunks=sorted(row.trunks),
        cvlans=sorted(_column(row, "cvlans", [])),
        vlan_mode=_one(row, "vlan_mode"),
        bond_mode=_one(row, "bond_mode"),
        external_ids=dict(row.external_ids),
        other_config=dict(row.other_config),
        qos=dict(row.qos[0].other_config) if row.qos else None,
        interfaces=sorted(map(_interface, row.interfaces), key=lambda interface: interface.name),
    )


def _interface(row: Any) -> Interface:
    return Interface(
        name=row.name,
        type=row.type,
        ofport=_one(row, "ofport"),
        ofport_request=_one(row, "ofport_request"),
        error=_one(row, "error"),
        mac=_one(row, "mac"),
        mac_in_use=_one(row, "mac_in_use"),
        mtu=_one(row, "mtu"),
        mtu_request=_one(row, "mtu_request"),
        ifindex=_one(row, "ifindex"),
        admin_state=_one(row, "admin_state"),
        link_state=_one(row, "link_state"),
        link_speed=_one(row, "link_speed"),
        ingress_policing_rate=row.ingress_policing_rate,
        ingress_policing_burst=row.ingress_policing_burst,
        options=dict(row.options),
        external_ids=dict(row.external_ids),
        statistics=dict(row.statistics),
        status=dict(row.status),
    )


def _mirror(row: Any) -> Mirror:
    return Mirror(
        name=row.name,
        sources=sorted(port.name for port in row.select_src_port),
        destinations=sorted(port.name for port in row.select_dst_port),
        output=row.output_port[0].name if row.output_port else None,
        output_vlan=_one(row, "output_vlan"),
        everything=row.select_all,
        vlans=sorted(row.select_vlan),
    )


def _one(row: Any, column: str) -> Any:
    """The value of a column that has at most one; None if it has none."""
    value = _column(row, column, [])
    if isinstance(value, list):
        return value[0] if value else None
    return value


def _column(row: Any, name: str, default: Any) -> Any:
    """The value of a column; the default where this Open vSwitch has no such column."""
    return getattr(row, name, default)
