"""Addresses that are given out and held by nobody: host-local's files against the ports in Open vSwitch."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path

from cni_ovs.plugin import at_work
from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.forms import is_identifier, tells_attachment
from cni_ovs.plugin.netns import is_gone

from ...configurations.runtime_files import string
from ...database import Database, OpenVSwitch
from ...recorded import CACHE, INTERRUPTED
from ..examination import Check
from ..machine import Machine
from ..problems import WARNING, Finding, Problem, Skip

_DATA = "/var/lib/cni/networks"  # host-local's default
_MOMENT = 0.3  # seconds; a DEL takes less between its note and the end of it, unless its IPAM plugin is slow
_YOUNG = 60.0  # seconds: an ADD may be at work that is not seen (in another container)
_LARGEST = 8192  # bytes of a file: a container id and the name of an interface
_LARGEST_CACHED = 4 << 20  # bytes of a file of libcni
_NOTE = "cni-ovs-detaching-"

ADDRESS_HELD_BY_NOBODY = Problem(
    "address_held_by_nobody",
    WARNING,
    "address {address} of network {network} is given out to {container}, which has no port",
    "the container ended and its address was not returned; when all are gone, new pods get none",
    "if no other program has attached that container, return it:",
    "rm {path}",
)
REMOVAL_UNFINISHED = Problem(
    "removal_unfinished",
    WARNING,
    "the removal of {ifname} of {container} from network {network} is unfinished",
    "a DEL was killed, or the IPAM plugin could not return the address",
    "the next DEL of the container or garbage collection of the network finishes it, or:",
    "cni-ovs gc {db}",
)


REATTACH_UNFINISHED = Problem(
    "reattach_unfinished",
    WARNING,
    "attaching {ifname} of {container} anew is unfinished",
    "a `cni-ovs reattach` was killed, or failed half way",
    command="cni-ovs reattach {target} {ifname} {db}",
)


def held(machine: Machine) -> Iterator[Finding]:
    """Every address that host-local has given out belongs to a port."""
    folders = _folders(machine)
    if not folders:
        raise Skip("no network of type ovs has host-local")
    open_vswitch = machine.open_vswitch
    if any(port.is_of_ovs_cni for _, port in open_vswitch.ports()):
        raise Skip("there are ports of ovs-cni, which do not tell their network")
    for network, folder in folders:
        for path, container_id, ifname in _held_by_nobody(network, folder, open_vswitch):
            values = {"address": path.name, "network": network, "container": container_id[:12], "ifname": ifname}
            yield ADDRESS_HELD_BY_NOBODY.found(path=str(path), **values)


def removals(machine: Machine) -> Iterator[Finding]:
    """No removal is unfinished."""
    suspects = {name: ids for name, ids in _notes(machine.open_vswitch).items() if not machine.is_at_work(ids)}
    if not suspects:
        return
    for name in _staying(machine.address, set(suspects)):
        ids = suspects[name]
        values = {"ifname": ids["contIface"], "container": ids["contID"][:12], "network": ids.get("contNetwork", "")}
        if INTERRUPTED in ids and not is_gone(ids["contNetns"]):
            yield REATTACH_UNFINISHED.found(target=ids["contNetns"], db=machine.cni_ovs, **values)
        else:
            yield REMOVAL_UNFINISHED.found(db=machine.cni_ovs, **values)


def _staying(address: str, names: set[str]) -> list[str]:
    """The notes that stay all the time for a moment: one container may be attached and removed again and again."""
    connection = Database(address)

    def are_gone() -> bool:
        names.intersection_update(_notes(connection.read()))
        return not names

    try:
        connection.wait(_MOMENT, until=are_gone)
    finally:
        connection.close()
    return sorted(names)


def _folders(machine: Machine) -> list[tuple[str, Path]]:
    """Network and folder of the addresses, for each network of ours that has host-local."""
    found: dict[tuple[str, Path], None] = {}
    for network, plugin in machine.networks:
        if string(plugin, "ipam", "type") == "host-local" and is_identifier(network):
            found[network, Path(string(plugin, "ipam", "dataDir") or _DATA) / network] = None
    return list(found)


def _held_by_nobody(network: str, folder: Path, open_vswitch: OpenVSwitch) -> list[tuple[Path, str, str]]:
    """The files of addresses whose owners have no port: path, container id and interface."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # no address was ever given out, or it is not ours to read
        return []
    found, known = [], _known(open_vswitch)
    for path in paths:
        owner = _owner(path)
        if owner is None or (network, *owner) in known:
            continue
        if at_work.is_add_alive(attachments.port_name(network, owner[0], owner[1] or "eth0")):
            continue
        if not _is_cached(network, owner[0]):
            found.append((path, *owner))
    return found


def _is_cached(network: str, container_id: str) -> bool:
    """Whether a container lives that libcni knows of: in this network others may have attached it, as `bridge` did."""
    for path in CACHE.glob(f"{network}-{container_id}-*"):
        try:
            with path.open("rb") as file:
                cached = json.loads(file.read(_LARGEST_CACHED))
            interfaces = cached["result"].get("interfaces") or []
            sandboxes = [cached.get("netns"), *(interface.get("sandbox") for interface in interfaces)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
        if any(isinstance(netns, str) and netns.startswith("/") and not is_gone(netns) for netns in sandboxes):
            return True
    return False


def _owner(path: Path) -> tuple[str, str] | None:
    """Container id and interface of an address that was given out more than a minute ago; "" for no interface."""
    try:
        ipaddress.ip_address(path.name)
        if not path.is_file() or time.time() - path.stat().st_mtime < _YOUNG:
            return None
        with path.open(errors="replace") as file:
            lines = file.read(_LARGEST).split("\n")
    except (OSError, ValueError):
        return None
    container_id, ifname = lines[0].strip(), lines[1].strip() if len(lines) > 1 else ""
    return (container_id, ifname) if is_identifier(container_id) else None


def _known(open_vswitch: OpenVSwitch) -> set[tuple[str, str, str]]:
    """Network, container id and interface of all that ports and notes tell of; and "" instead of the interface."""
    recorded = [port.external_ids for _, port in open_vswitch.attached()]
    recorded += _notes(open_vswitch).values()
    owners = [(ids.get("contNetwork", ""), ids.get("contID", ""), ids.get("contIface", "")) for ids in recorded]
    return {
        owner
        for network, container_id, ifname in owners
        for owner in ((network, container_id, ifname), (network, container_id, ""))
    }


def _notes(open_vswitch: OpenVSwitch) -> dict[str, dict[str, str]]:
    """The external_ids of attachments whose removal has begun (detaching.py of the plugin), by the name of the note."""
    found = {}
    for bridge in open_vswitch.bridges:
        for key, text in bridge.external_ids.items():
            if not key.startswith(_NOTE):
                continue
            try:
                recorded = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if not isinstance(recorded, dict) or not all(isinstance(value, str) for value in recorded.values()):
                continue
            if tells_attachment(recorded) and key == _NOTE + attachments.name_of(recorded):
                found[key] = recorded
    return found


CHECKS = (
    Check(
        "addresses_held",
        "addresses that host-local has given out",
        held,
        (ADDRESS_HELD_BY_NOBODY,),
        of_target=False,
        may_pass=True,
    ),
    Check(
        "removals",
        "unfinished removals",
        removals,
        (REMOVAL_UNFINISHED, REATTACH_UNFINISHED),
        of_target=False,
        may_pass=True,
    ),
)
