"""What is left of containers that are gone: found by proofs, and removed by the plugin's own GC.

A container that lives is never touched. Where it cannot be proved that one is gone, everything of it is kept and told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin import config as network_config
from cni_ovs.plugin import detaching, gc, ipam, spoofing
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.delete import Errors
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.forms import tells_attachment
from cni_ovs.plugin.protocol import Invocation
from cni_ovs.plugin.vswitch import Port, Vswitch

from . import database, recorded
from .configurations import networks
from .proofs import Proofs

PORT, NOTE, LIMITS, RULES = "port", "note", "limits", "rules"
_SECONDS = 30.0  # for each thing
_OURS = {"owner": attachments.OWNER}


@dataclass(frozen=True)
class Item:
    """Something that is left.

    Attributes:
        kind: PORT, with its device, rules, limits and address; NOTE of a removal that was not finished, with its
            address; LIMITS, QoS and Queue rows without a port; RULES, OpenFlow rules without a port.
        name: of the port; of RULES their cookie.
        network, container_id, interface, netns: whose it is; "" where that is not known.
        bridge: where; "" where that is not known.
        why: why it can be removed, or why it is kept.
        address: what becomes of its address; "" where there is none, or that is not known.
    """

    kind: str
    name: str
    network: str
    container_id: str
    interface: str
    netns: str
    bridge: str
    why: str
    address: str = ""


@dataclass
class Findings:
    """What there is.

    Attributes:
        stale: what can be removed, each with what does so; that returns False if it has changed meanwhile.
        kept: of which it cannot be proved that nobody uses it.
        alive: how many ports belong to containers that are there.
    """

    stale: list[tuple[Item, Callable[[], bool]]]
    kept: list[Item]
    alive: int


class Search:
    """Finds what is left. The connection must stay open for what is removed.

    Args:
        address: of the database.
        network: only this one; "" for all.
        known: the configurations of networks.
        cni_path: where IPAM plugins are.
        stop: as for Deadline.

    Raises:
        CniError, Failure: Open vSwitch cannot be reached.
    """

    def __init__(
        self, address: str, network: str, known: networks.Networks, cni_path: str, stop: tuple[int, ...]
    ) -> None:
        self._stop = stop
        self._address = address
        self._network = network
        self._known = known
        self._environment = {**os.environ, "CNI_COMMAND": "GC", "CNI_PATH": cni_path}
        self._state = database.read(address)
        self._bridges = {port.uuid: bridge for bridge, port in self._state.ports()}
        self._proofs = Proofs(address, self._state)
        self._vswitch = Vswitch(address, Deadline(_SECONDS, stop))

    def run(self) -> Findings:
        """Look at everything that says it is ours."""
        wanted = attachments.of_network(self._network) if self._network else _OURS
        findings = Findings([], [], 0)
        limits = self._vswitch.limits_of_network(wanted)  # before the ports: an ADD inserts both at once
        ports = sorted(self._vswitch.ports_of_network(wanted), key=lambda port: port.name)
        for port in ports:
            self._port(port, findings)
        for identity in gc.without_ports(limits, ports):
            item = _item(LIMITS, attachments.name_of(identity), identity, "", "its port is gone")
            findings.stale.append((item, lambda identity=identity: self._remove_limits(identity)))  # type: ignore[misc] # a default argument holds the value of this round
        names = {attachments.name_of(port.external_ids) for port in ports if tells_attachment(port.external_ids)}
        for name, ids in sorted(detaching.notes(self._vswitch, wanted).items()):
            if name not in names:  # else it is attached anew, and its note goes with that
                self._note(name, ids, findings)
        if not self._network:  # rules do not tell of networks
            self._rules(findings)
        return findings

    # Each kind

    def _port(self, port: Port, findings: Findings) -> None:
        ids = port.external_ids
        bridge = self._bridges[port.uuid].name if port.uuid in self._bridges else ""
        if self._proofs.is_alive(ids):
            findings.alive += 1
            return
        doubt = self._proofs.doubt(port)
        if doubt:
            findings.kept.append(_item(PORT, port.name, ids, bridge, doubt))
            return
        config, known = self._config_of(port.name, ids)
        item = _item(PORT, port.name, ids, bridge, "its network namespace is gone", self._promise(config, known))

        def remove() -> bool:
            gone = not self._proofs.is_alive(ids) and not self._proofs.doubt(port)
            return gone and self._by_plugin(config, lambda removal: removal.remove(port))

        findings.stale.append((item, remove))

    def _note(self, name: str, ids: dict[str, str], findings: Findings) -> None:
        """An attachment whose port is removed, and whose address perhaps is not returned."""
        config, known = self._config_of(name, ids)

        def doubt() -> str:
            if not known:
                return "its address stays: no configuration of the network tells of an IPAM plugin"
            return self._proofs.doubt_of_note(name, ids)

        reason = doubt()
        if reason:
            findings.kept.append(_item(NOTE, name, ids, "", reason))
            return

        def remove() -> bool:
            return not doubt() and self._by_plugin(config, lambda removal: removal.finish(name, ids))

        item = _item(NOTE, name, ids, "", "its removal was not finished", self._promise(config, known))
        findings.stale.append((item, remove))

    def _rules(self, findings: Findings) -> None:
        for bridge, cookie in self._orphans():
            item = Item(RULES, f"{cookie:#x}", "", "", "", "", bridge, "their port is gone")
            findings.stale.append((item, lambda one=(bridge, cookie): self._remove_rules(*one)))  # type: ignore[misc] # as above

    def _orphans(self) -> list[tuple[str, int]]:
        if not self._address.startswith("unix:"):
            return []  # bridges listen beside a local database
        found = spoofing.orphans(self._vswitch, self._config("", {}), self._deadline())
        return sorted((bridge, cookie) for bridge, _, cookie in found)

    def _remove_rules(self, bridge: str, cookie: int) -> bool:
        for name, switch, owner in spoofing.orphans(self._vswitch, self._config("", {}), self._deadline()):
            if (name, owner) == (bridge, cookie):
                switch.remove(owner)
                return True
        return False

    def _remove_limits(self, identity: dict[str, str]) -> bool:
        self._deadline()
        if self._vswitch.ports_of_network(identity):
            return False
        self._vswitch.remove_limits(identity)
        return True

    # By the plugin

    def _config_of(self, name: str, external_ids: dict[str, str]) -> tuple[network_config.NetworkConfig, bool]:
        """What an attachment was made with, or the configuration of its network, and whether one of them is known."""
        network = external_ids.get("contNetwork", "")
        record = recorded.known(external_ids)
        found = record.config if record else self._known.by_name.get(network)
        return self._config(network, found or {}), found is not None

    def _config(self, network: str, found: dict[str, Any]) -> network_config.NetworkConfig:
        # Where Open vSwitch is, the command says. The log is what the command prints.
        ours = {"name": network, "type": "ovs", "socket_file": self._address, "log_level": "error"}
        values = {key: value for key, value in found.items() if key.lower() not in (*ours, "log_file")} | ours
        return network_config.parse(values, json.dumps(found or values).encode(), "", lenient=True)

    def _promise(self, config: network_config.NetworkConfig, known: bool) -> str:
        """What becomes of an address."""
        if not known:
            return "stays: no configuration of the network was found"
        if config.ipam_type is None:
            return ""
        try:
            ipam.find(config.ipam_type, self._environment["CNI_PATH"])
        except CniError as error:
            return f"stays: {error.msg}"
        return f"is returned by {config.ipam_type}"

    def _by_plugin(self, config: network_config.NetworkConfig, work: Callable[[gc.Removal], bool]) -> bool:
        errors = Errors()
        deadline = self._deadline(config.timeout)
        done = work(gc.Removal(self._vswitch, Invocation(self._environment), config, deadline, errors))
        errors.raise_first()
        return done

    def _deadline(self, seconds: float = _SECONDS) -> Deadline:
        deadline = Deadline(seconds, self._stop)
        self._vswitch.use(deadline)
        return deadline


def _item(kind: str, name: str, recorded: dict[str, str], bridge: str, why: str, address: str = "") -> Item:
    network, container_id, interface, netns = (
        recorded.get(key, "") for key in ("contNetwork", "contID", "contIface", "contNetns")
    )
    return Item(kind, name, network, container_id, interface, netns, bridge, why, address)


def remove(findings: Findings, check: Callable[[], None]) -> Iterator[tuple[Item, str]]:
    """Remove what can be removed, one after the other.

    Args:
        findings: what there is.
        check: called in between; may raise.

    Returns:
        Each item, and why it is still there; "" if it is gone.
    """
    for item, work in findings.stale:
        check()
        try:
            yield item, "" if work() else "it has changed meanwhile"
        except CniError as error:
            yield item, ": ".join(text for text in (error.msg, error.details) if text)
        except OSError as error:
            yield item, str(error)


def as_json(findings: Findings, outcome: Sequence[tuple[Item, str]], *, dry_run: bool) -> dict[str, Any]:
    """The form that docs/command.md describes."""
    return {
        "dry_run": dry_run,
        "removed": [item.__dict__ for item, error in outcome if not error],
        "failed": [{**item.__dict__, "error": error} for item, error in outcome if error],
        "kept": [item.__dict__ for item in findings.kept],
        "alive": findings.alive,
    }
