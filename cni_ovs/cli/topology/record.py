"""The topology as JSON. The keys are described in docs/command.md: they are not renamed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .. import database
from ..kernel import Link
from .model import Attachment, Bridge, Port, Topology

_SECRET = {"psk"}  # of an IPsec tunnel (ovs-vswitchd.conf.db(5))


def topology(value: Topology) -> dict[str, Any]:
    """All of it."""
    return {"ovs_version": value.ovs_version, "bridges": [_bridge(bridge) for bridge in value.bridges]}


def attachment(value: Attachment | None) -> dict[str, Any] | None:
    """Whose a port is; "" is what is not recorded."""
    if value is None:
        return None
    return {
        "owner": value.owner,
        "network": value.network,
        "container_id": value.container_id,
        "interface": value.interface,
        "netns": value.netns,
        "netns_state": value.state,
        "pod_namespace": value.pod_namespace,
        "pod_name": value.pod_name,
        "pod_uid": value.pod_uid,
        "container_name": value.container_name,
        "socket": value.socket,
        "device": _link(value.device),
    }


def _bridge(bridge: Bridge) -> dict[str, Any]:
    row = bridge.row
    return {
        "name": row.name,
        "datapath_type": row.datapath_type or "system",
        "datapath_id": row.datapath_id,
        "fail_mode": row.fail_mode,
        "controllers": row.controllers,
        "external_ids": row.external_ids,
        "other_config": row.other_config,
        "mirrors": [_mirror(mirror) for mirror in row.mirrors],
        "ports": [_port(port) for port in bridge.ports],
    }


def _mirror(mirror: database.Mirror) -> dict[str, Any]:
    return {
        "name": mirror.name,
        "all": mirror.everything,
        "vlans": mirror.vlans,
        "from_ports": mirror.sources,
        "to_ports": mirror.destinations,
        "output_port": mirror.output,
        "output_vlan": mirror.output_vlan,
    }


def _port(port: Port) -> dict[str, Any]:
    row, interface = port.row, port.interface
    return {
        "name": row.name,
        "uuid": row.uuid,
        "kind": port.kind,
        "ofport": interface.ofport if interface else None,
        "error": port.error,
        "vlan": {
            "text": port.vlan,
            "mode": row.vlan_mode,
            "tag": row.tag,
            "trunks": row.trunks,
            "cvlans": row.cvlans,
        },
        "attachment": attachment(port.attachment),
        "host_device": _link(port.device),
        "peer": {"bridge": port.peer[0], "port": port.peer[1]} if port.peer else None,
        "bandwidth": {"in_bits_per_second": port.limits[0], "out_bits_per_second": port.limits[1]},
        "counters": asdict(port.counters) if port.counters else None,
        "external_ids": row.external_ids,
        "other_config": row.other_config,
        "bond_mode": row.bond_mode,
        "interfaces": [_interface(interface) for interface in row.interfaces],
    }


def _interface(interface: database.Interface) -> dict[str, Any]:
    """The row as it is, but for what is secret."""
    options = {key: "(secret)" if key in _SECRET else value for key, value in interface.options.items()}
    return {**asdict(interface), "options": options}


def _link(link: Link | None) -> dict[str, Any] | None:
    if link is None:
        return None
    return {
        "name": link.name,
        "alternative_names": list(link.altnames),
        "index": link.index,
        "kind": link.kind,
        "mac": link.mac,
        "mtu": link.mtu,
        "up": link.up,
        "carrier": link.carrier,
        "addresses": link.addresses,
    }
