"""Attaching and detaching, with the very code of ADD and DEL, within this process."""

from __future__ import annotations

import json
import os
import select
from _socket import socket
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cni_ovs.plugin import add, at_work, delete, detaching, flatfile, log, protocol
from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.attachment import BY_HAND, Attachment
from cni_ovs.plugin.config import NetworkConfig, lookup, usual_flat_file
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.devices import MOVED
from cni_ovs.plugin.errors import TRY_AGAIN_LATER, CniError
from cni_ovs.plugin.forms import is_identifier
from cni_ovs.plugin.inet import parse_mac
from cni_ovs.plugin.main import stop_on_signals
from cni_ovs.plugin.netlink import Netlink
from cni_ovs.plugin.protocol import Invocation
from cni_ovs.plugin.result import parse
from cni_ovs.plugin.vswitch import Vswitch

from . import kernel, mirrored, recorded
from .configurations.source import PLUGIN_FOLDERS
from .database import Port
from .failure import Failure
from .recorded import Record
from .targets import Target

NETWORK = "cni-ovs"  # of attachments without a configuration of their own
_SECONDS = 5.0  # for what is recorded, and what is asked besides


@dataclass(frozen=True)
class Attached:
    """What ADD has made: on which bridge, and the CNI result."""

    bridge: str
    result: dict[str, Any]


def attach(target: Target, ifname: str, record: Record) -> Attached:
    """Attach a container; leaves nothing behind if that fails.

    Args:
        target: the container.
        ifname: the interface that it gets.
        record: configuration and addresses; it is recorded in the port.

    Raises:
        CniError: as ADD.
    """
    config = _filled_up(record.config)
    if record.ips:
        config = {key: value for key, value in config.items() if key.lower() != "ipam"}
    record = replace(record, config=config, process=kernel.process(target.netns))
    own = {BY_HAND: record.text()}
    if target.runtime not in ("namespace", "process"):
        own[recorded.NAME] = target.name
    namespace, _, name = target.pod.partition("/")
    is_pod = is_identifier(namespace) and is_identifier(name)
    pod = f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};" if is_pod else ""
    variables = {
        "CNI_CONTAINERID": target.container_id,
        "CNI_NETNS": target.netns,
        "CNI_IFNAME": ifname,
        "CNI_PATH": record.cni_path,
        "CNI_ARGS": f"{pod}IgnoreUnknown=1",
    }
    return _add(variables, record, own)


def _filled_up(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what a flat file adds to it: its values are recorded, whatever it says of them later.

    Raises:
        CniError: INVALID_CONFIG, as ADD.
    """
    path = lookup(config, "configuration_path") or usual_flat_file()
    if not isinstance(path, str) or not path.startswith("/"):
        return config  # ADD says what is wrong with it
    whole, _, _ = flatfile.fill_up(config, b"", path)
    return {key: value for key, value in whole.items() if key.lower() != "configuration_path"}


def detach(external_ids: dict[str, str], record: Record, socket_file: str, cni_path: str) -> None:
    """Detach what a port of ours, or a note of one, tells of.

    Args:
        external_ids: those of the port, or what is noted.
        record: with what it was made.
        socket_file: where Open vSwitch is.
        cni_path: where IPAM plugins are. What is recorded is not taken: a row of the database would say what is run.

    Raises:
        CniError: as DEL.
    """
    variables = variables_of(external_ids, cni_path)
    invocation, config, deadline = _prepare("DEL", variables, {**record.config, "socket_file": socket_file})
    attachment = attachments.of(invocation, config)
    attachment.external_ids = external_ids  # if a note stays, because the address cannot be returned, it tells it all
    for sign in (_sign(attachment.port_name), attachment.port_name):
        at_work.wait_for_end(sign, deadline)
    try:
        # Not delete.run: that also removes stale ports of the network, whose addresses only its configuration returns.
        vswitch = delete.detach(attachment, invocation, config, deadline)
        if vswitch is not None:
            vswitch.use(deadline)
            detaching.forget(vswitch, attachment.port_name)
    except CniError as error:
        if record.cni_path not in ("", cni_path):
            _add_details(error, f"it was attached with --cni-path {record.cni_path}")
        if _is_noted(attachment.port_name, socket_file):
            _add_details(error, "the port is gone, and its address is not returned: type the same again then")
        raise


def reattach(
    external_ids: dict[str, str], record: Record, socket_file: str, port: Port | None, netns: str = ""
) -> Attached:
    """Attach anew, without returning addresses or asking for others.

    In the transaction that removes the port a note of all that is left. So if this process is killed before there is a
    new one, or ADD fails, this can be done again without the port.

    Args:
        external_ids: those of the port, or what is noted.
        record: with what.
        socket_file: where Open vSwitch is.
        port: what is there and is removed before; None if it has been.
        netns: the container's namespace, if it has another one now.

    Raises:
        CniError: as DEL and ADD; if the port is gone then, the details say so.
        Failure: somebody else is doing it.
    """
    name = attachments.name_of(external_ids)
    own = {key: external_ids[key] for key in (BY_HAND, recorded.NAME) if key in external_ids}
    variables = variables_of(external_ids)
    if netns:
        record = replace(record, process=kernel.process(netns))
        own[BY_HAND] = record.text()
    whole = replace(record, config={**record.config, "socket_file": socket_file})
    # What is wrong with it is told while the port is there.
    invocation, config, deadline = _prepare("ADD", variables, values_of(whole, own))
    sign = _begin(name, deadline)
    try:
        if port is not None:
            note = detaching.note(name, {**external_ids, recorded.INTERRUPTED: record.text()})
            _remove(port, note, invocation, config, deadline)
        attached = _add({**variables, "CNI_NETNS": netns or variables["CNI_NETNS"]}, whole, own)
        _finish(external_ids, record, socket_file)
    except CniError as error:
        if _is_noted(name, socket_file):
            _add_details(error, "the port is gone; how it was is noted: `cni-ovs reattach` tries again")
        raise
    finally:
        if sign is not None:
            at_work.end(sign)
    return attached


def finish(external_ids: dict[str, str], record: Record, socket_file: str) -> None:
    """Do what a `reattach` that was killed had still to do when ADD had made the port.

    Args:
        external_ids: those of the port.
        record: what was noted.
        socket_file: where Open vSwitch is.

    Raises:
        CniError: Open vSwitch does not answer.
        Failure: somebody else is doing it.
    """
    sign = _begin(attachments.name_of(external_ids), Deadline(_SECONDS))
    try:
        _finish(external_ids, record, socket_file)
    finally:
        if sign is not None:
            at_work.end(sign)


def _finish(external_ids: dict[str, str], record: Record, socket_file: str) -> None:
    identity = attachments.identity_of(external_ids)
    if record.mirrors and identity is not None:
        mirrored.give_back(socket_file, identity, record.mirrors)
    detaching.forget(Vswitch(socket_file, Deadline(_SECONDS)), attachments.name_of(external_ids))


def _begin(name: str, deadline: Deadline) -> socket | None:
    """Put up the sign of a `reattach`; Failure, if there is one."""
    try:
        return at_work.begin(_sign(name), deadline)
    except CniError as error:
        raise Failure("another `cni-ovs reattach` is just attaching it anew", error.details) from error


def _sign(name: str) -> str:
    """Of a `reattach`, between the one of removing a port and that of ADD."""
    return f"{name}-reattach"


def _remove(
    port: Port, note: dict[str, str], invocation: Invocation, config: NetworkConfig, deadline: Deadline
) -> None:
    """Remove a port and what belongs to it, but for its address, unless somebody is at work on it.

    Raises:
        CniError: as DEL; TRY_AGAIN_LATER, if it is not what was seen any more.
    """
    attachment = attachments.of(invocation, config)
    sign = at_work.begin(attachment.port_name, deadline)
    try:
        vswitch = delete.open_vswitch(config, deadline)
        ports = [one for one in vswitch.ports_of_network(attachment.identity) if one.uuid == port.uuid]
        if not ports or not delete.remove_ports(vswitch, ports, deadline, wait=True, notes=note):
            raise CniError(TRY_AGAIN_LATER, f"port {port.name} has changed meanwhile", "try it again")
        delete.remove_rules(vswitch, ports, config, deadline)
        if ports[0].interface_type in MOVED:
            delete.destroy_orphan(attachment)
    finally:
        if sign is not None:
            at_work.end(sign)


def _add(variables: dict[str, str], record: Record, own: dict[str, str]) -> Attached:
    """ADD, with the addresses of the record if it has any.

    Args:
        variables: CNI_.
        record: with what.
        own: what is added to external_ids.
    """
    invocation, config, deadline = _prepare("ADD", variables, values_of(record, own))
    given = None
    if record.ips:
        routes = [route for route in record.routes if not route.get("onlink")]
        given = parse({"ips": record.ips, "routes": routes})
        config.ipam_type = None
    result = add.run(invocation, config, deadline, given)
    attachment = attachments.of(invocation, config)
    if record.host_mac:
        _set_host_mac(attachment.port_name, record.host_mac, result)
    for route in record.routes:
        if route.get("onlink"):
            try:
                kernel.add_onlink(route, invocation.ifname, invocation.netns)
            except OSError as error:
                log.warning(f"the route to {route['dst']} through {route['gw']} cannot be set: {error.strerror}")
    if BY_HAND in own:
        _complete(attachment, record, result, config.socket_file)
    return Attached(config.bridge, result)


def values_of(record: Record, own: dict[str, str]) -> dict[str, Any]:
    """The configuration for ADD.

    `_add` takes the addresses of the record, if it has any. That the configuration has `ipam` then says that there are
    some, which `ipspoofchk` needs.
    """
    values = recorded.added(record.config, "external_ids", own)
    if record.ips and lookup(values, "ipam") is None:
        values = {**values, "ipam": {"type": "none"}}
    return recorded.added(values, "runtimeConfig", {"mac": record.mac}) if record.mac else values


def _set_host_mac(port: str, mac: str, result: dict[str, Any]) -> None:
    """Give the host's end of a veth pair the MAC that it had: so it is in the result that a runtime has."""
    host = Netlink()
    try:
        link = host.link(port)
        if link is not None and link.kind == "veth":
            host.set_mac(link.index, parse_mac(mac))
            for interface in result.get("interfaces", []):
                if interface["name"] == port:
                    interface["mac"] = mac
    except (CniError, OSError, ValueError) as error:
        log.warning(f"the MAC {mac} of {port} cannot be set: {error}")
    finally:
        host.close()


def _complete(attachment: Attachment, record: Record, result: dict[str, Any], socket_file: str) -> None:
    """Record also what the attachment has been given: when its device is lost, nobody else knows of it."""
    given = recorded.given(result, attachment.ifname, attachment.port_name)
    onlink = [route for route in record.routes if route.get("onlink")]
    text = replace(record, **{**given, "routes": [*given["routes"], *onlink]}, mirrors={}).text()
    try:
        vswitch = Vswitch(socket_file, Deadline(_SECONDS))
        for port in vswitch.ports_of_network(attachment.identity):
            vswitch.claim(port, {BY_HAND: text})
    except CniError as error:
        log.warning(f"what the attachment was given is not recorded: {error.msg}")


def _is_noted(name: str, socket_file: str) -> bool:
    """Whether there is a note of a port, and no port."""
    try:
        vswitch = Vswitch(socket_file, Deadline(_SECONDS))
        noted = attachments.identity_of(detaching.notes(vswitch, {}).get(name, {}))
        return noted is not None and not vswitch.ports_of_network(noted)
    except CniError:
        return False


def _add_details(error: CniError, text: str) -> None:
    error.details = f"{error.details}; {text}" if error.details else text


def variables_of(external_ids: dict[str, str], cni_path: str = PLUGIN_FOLDERS) -> dict[str, str]:
    """Those of the attachment that external_ids tell of."""
    pods = {"K8S_POD_NAMESPACE": "contPodNamespace", "K8S_POD_NAME": "contPodName", "K8S_POD_UID": "contPodUid"}
    known = [f"{theirs}={external_ids[ours]}" for theirs, ours in pods.items() if external_ids.get(ours)]
    return {
        "CNI_CONTAINERID": external_ids.get("contID", ""),
        "CNI_NETNS": external_ids.get("contNetns", ""),
        "CNI_IFNAME": external_ids.get("contIface", ""),
        "CNI_PATH": cni_path,
        "CNI_ARGS": ";".join(["IgnoreUnknown=1", *(text for text in known if ";" not in text)]),
    }


def _prepare(
    command: str, variables: dict[str, str], config: dict[str, Any]
) -> tuple[Invocation, NetworkConfig, Deadline]:
    """What a command of the plugin needs, checked as the plugin does.

    A signal ends a wait of it, as it does in the plugin, so that what was done is undone.
    """
    # PATH and the like are for the IPAM plugin.
    invocation = Invocation({**os.environ, **variables, "CNI_COMMAND": command})
    protocol.check_environment(invocation)
    read = protocol.read(invocation, json.dumps(config).encode())
    if "log_level" not in config:
        log.configure("warning", None)
    return invocation, read, Deadline(read.timeout, (_stop(),))


@cache
def _stop() -> int:
    """What becomes readable with a signal; once for all commands, so that one does not go unseen between two."""
    return stop_on_signals()


def check_stop() -> None:
    """Raise Failure if a signal has come: what would follow is not begun."""
    poll = select.poll()
    poll.register(_stop(), select.POLLIN)
    if poll.poll(0):
        raise Failure("stopped by a signal")
