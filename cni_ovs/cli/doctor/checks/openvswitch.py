"""Open vSwitch itself: its two daemons."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from cni_ovs.plugin.ovsdb import TransactionError

from ...database import Database
from ...output import plain
from ..examination import Check
from ..machine import DOWN, SILENT, STOPPED, Machine, stopped
from ..problems import FAULT, WARNING, Finding, Problem, Skip

_MOMENT = 1.0  # seconds in which ovs-vswitchd takes a change, and rather more
_UCRED = struct.Struct("iII")  # linux/socket.h: process, user and group

# What the plugin reads and writes; Open vSwitch 2.13 has it all.
_NEEDED = {
    "Open_vSwitch": ("next_cfg", "cur_cfg", "external_ids", "other_config", "iface_types", "dpdk_initialized"),
    "Bridge": ("name", "ports", "datapath_type", "datapath_id", "fail_mode", "controller", "mirrors", "external_ids"),
    "Port": ("name", "interfaces", "external_ids", "tag", "trunks", "cvlans", "vlan_mode", "qos"),
    "Interface": (
        *("name", "type", "options", "external_ids", "ofport", "ofport_request", "error", "mtu_request", "ifindex"),
        *("admin_state", "ingress_policing_rate"),
    ),
}

START = "systemctl start {service}"
DATABASE_UNREACHABLE = Problem(
    "database_unreachable",
    FAULT,
    "ovsdb-server cannot be reached at {address}: {reason}",
    "it is not running, or listens elsewhere",
    "start Open vSwitch, or say with --db where it listens:",
    START,
)
DATABASE_STOPPED = Problem(
    "database_stopped",
    FAULT,
    "ovsdb-server does not answer: process {process} is stopped",
    "somebody sent it SIGSTOP, or is debugging it",
    command="kill -CONT {process}",
)
DATABASE_SILENT = Problem(
    "database_silent",
    FAULT,
    "ovsdb-server at {address} does not answer: {reason}",
    "it is overloaded, or what listens there is something else",
    "see its log, ovsdb-server.log",
)
DATABASE_FOREIGN = Problem(
    "database_foreign",
    FAULT,
    "what answers at {address} has no database of Open vSwitch",
    "it is another database server, as OVN's",
    "say with --db where Open vSwitch's ovsdb-server listens",
)
DATABASE_EMPTY = Problem(
    "database_empty",
    FAULT,
    "ovsdb-server answers, but: {reason}",
    "it was made anew, and Open vSwitch not started by its own scripts",
    command="{vsctl} --no-wait init",
)
SCHEMA_OLD = Problem(
    "schema_old",
    FAULT,
    "Open vSwitch is too old: its database does not have {columns}",
    "it is older than 2.13, or its database was not converted",
    "update Open vSwitch",
)
VSWITCHD_DOWN = Problem(
    "vswitchd_down",
    FAULT,
    "ovs-vswitchd is not running",
    "it was never started, or has crashed; ports neither come nor go",
    command=START,
)
VSWITCHD_STOPPED = Problem(
    "vswitchd_stopped",
    FAULT,
    "ovs-vswitchd does not answer: process {process} is stopped",
    "somebody sent it SIGSTOP, or is debugging it",
    command="kill -CONT {process}",
)
VSWITCHD_SILENT = Problem(
    "vswitchd_silent",
    FAULT,
    "ovs-vswitchd is running, but does not answer",
    "it is overloaded, or waits for something",
    "see its log, ovs-vswitchd.log",
)
VSWITCHD_LAGS = Problem(
    "vswitchd_lags",
    WARNING,
    "ovs-vswitchd lags: it has made change {current} of {wanted}",
    "it is busy with many ports or changes, or cannot make one of them",
    "see its log, ovs-vswitchd.log; until it has caught up, new pods wait",
)


def database(machine: Machine) -> Iterator[Finding]:
    """ovsdb-server answers, and has what we need."""
    try:
        schema = machine.schema
    except Skip as skip:
        yield _unreachable(machine, skip.__cause__)
        return
    tables = schema.get("tables", {})
    if not isinstance(tables, dict) or "Bridge" not in tables:
        yield DATABASE_FOREIGN.found(address=machine.address)
        return
    missing = [
        f"{table}.{column}"
        for table, columns in _NEEDED.items()
        for column in columns
        if column not in tables.get(table, {}).get("columns", {})
    ]
    if missing:
        yield SCHEMA_OLD.found(columns=", ".join(missing))
    try:
        _ = machine.open_vswitch
    except Skip as skip:
        yield DATABASE_EMPTY.found(reason=str(skip), vsctl=machine.vsctl)


def ovs_vswitchd(machine: Machine) -> Iterator[Finding]:
    """ovs-vswitchd lives, and answers."""
    state = machine.ovs_vswitchd
    if state == DOWN:
        yield VSWITCHD_DOWN.found(service=_service())
    elif state == STOPPED:
        yield from (VSWITCHD_STOPPED.found(process=process) for process in stopped(machine.control_processes()))
    elif state == SILENT:
        yield VSWITCHD_SILENT.found()


def keeping_up(machine: Machine) -> Iterator[Finding]:
    """ovs-vswitchd has made all changes."""
    now = machine.open_vswitch
    machine.need_ovs_vswitchd()
    if now.cur_cfg >= now.next_cfg:
        return
    connection = Database(machine.address)
    try:
        wanted = connection.read().next_cfg
        connection.wait(_MOMENT, until=lambda: connection.read().cur_cfg >= wanted)
        now = connection.read()
    finally:
        connection.close()
    if now.cur_cfg < wanted:
        yield VSWITCHD_LAGS.found(current=now.cur_cfg, wanted=wanted)


def _unreachable(machine: Machine, error: BaseException | None) -> Finding:
    """Why ovsdb-server does not answer."""
    if isinstance(error, TransactionError):
        return DATABASE_FOREIGN.found(address=machine.address)
    processes = stopped(_listening(machine.address))
    if processes:
        return DATABASE_STOPPED.found(process=processes[0])
    reason = str(error)
    if "cannot be reached" in reason:
        reason = reason.rpartition(": ")[2]
        return DATABASE_UNREACHABLE.found(address=machine.address, reason=reason, service=_service())
    return DATABASE_SILENT.found(address=machine.address, reason=plain(reason.partition(" while ")[0]))


def _listening(address: str) -> list[int]:
    """The process that has made a Unix socket."""
    kind, _, path = address.partition(":")
    if kind != "unix":
        return []
    with socket.socket(socket.AF_UNIX) as visit:
        visit.settimeout(0.5)
        try:
            visit.connect(path)
            process = _UCRED.unpack(visit.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
        except OSError:
            return []
    return [process] if process else []


def _service() -> str:
    """What Open vSwitch is called for systemctl: Debian's name, unless there is only that of others."""
    folders = [Path(folder) for folder in ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")]
    names = [
        name for name in ("openvswitch-switch", "openvswitch") for f in folders if (f / f"{name}.service").exists()
    ]
    return names[0] if names else "openvswitch-switch"


CHECKS = (
    Check(
        "database",
        "ovsdb-server and its database",
        database,
        (
            *(DATABASE_UNREACHABLE, DATABASE_STOPPED, DATABASE_SILENT, DATABASE_FOREIGN, DATABASE_EMPTY),
            SCHEMA_OLD,
        ),
    ),
    Check(
        "ovs_vswitchd",
        "ovs-vswitchd",
        ovs_vswitchd,
        (VSWITCHD_DOWN, VSWITCHD_STOPPED, VSWITCHD_SILENT),
    ),
    Check("keeping_up", "changes that ovs-vswitchd has to make", keeping_up, (VSWITCHD_LAGS,)),
)
