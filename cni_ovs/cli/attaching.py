"""Attaching and detaching, with the very code of ADD and DEL, within this process."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

from cni_ovs.plugin import add, delete, log, protocol
from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.config import NetworkConfig
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.forms import is_identifier
from cni_ovs.plugin.main import stop_on_signals
from cni_ovs.plugin.protocol import Invocation
from cni_ovs.plugin.result import parse

from . import kernel, recorded, targets
from .database import Bridge, OpenVSwitch, Port
from .failure import Failure
from .recorded import Record
from .targets import Target

NETWORK = "cni-ovs"  # of attachments without a configuration of their own
PLUGIN_FOLDERS = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"
_SHORTEST_ID = 3


def attach(target: Target, ifname: str, record: Record) -> dict[str, Any]:
    """Attach a container; returns the CNI result, and leaves nothing behind if that fails.

    Args:
        target: the container.
        ifname: the interface that it gets.
        record: configuration and addresses; it is recorded in the port.

    Raises:
        CniError: as ADD.
    """
    own = {recorded.KEY: record.text()}
    if target.runtime not in ("namespace", "process"):
        own[recorded.NAME] = target.name
    config = {**record.config, "external_ids": {**(record.config.get("external_ids") or {}), **own}}
    namespace, _, name = target.pod.partition("/")
    pod = f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};" if name and is_identifier(name) else ""
    variables = {
        "CNI_CONTAINERID": target.container_id,
        "CNI_NETNS": target.netns,
        "CNI_IFNAME": ifname,
        "CNI_PATH": record.cni_path,
        "CNI_ARGS": f"{pod}IgnoreUnknown=1",
    }
    return _add(variables, config, record)


def _add(variables: dict[str, str], config: dict[str, Any], record: Record) -> dict[str, Any]:
    """ADD, with the addresses of the record if it has any."""
    invocation, read, deadline = _prepare("ADD", variables, config)
    if not record.ips:
        return add.run(invocation, read, deadline)
    given = parse({"ips": record.ips, "routes": record.routes})
    read.ipam_type = None
    return add.run(invocation, read, deadline, given)


def detach(port: Port, record: Record, socket_file: str) -> None:
    """Detach what a port of ours belongs to.

    Raises:
        CniError: as DEL.
    """
    invocation, config, deadline = _prepare(
        "DEL", _variables(port, record), {**record.config, "socket_file": socket_file}
    )
    if record.ips and recorded.recorded(port):
        config.ipam_type = None  # no IPAM plugin gave them
    delete.run(invocation, config, deadline)


def replace(port: Port, record: Record, socket_file: str, netns: str) -> dict[str, Any]:
    """Detach what a port belongs to, without returning its addresses, and attach it anew with those of the record.

    Args:
        port: which.
        record: what it was made with.
        socket_file: where Open vSwitch is.
        netns: the container's namespace; another one than that of the port, if the container was restarted.

    Raises:
        CniError: as DEL and ADD. If it is one of ADD, the port is gone, and the details say so.
    """
    variables = _variables(port, record)
    config = {**record.config, "socket_file": socket_file}
    invocation, read, deadline = _prepare("DEL", variables, config)
    if record.ips:
        read.ipam_type = None
    delete.detach(attachments.of(invocation, read), invocation, read, deadline, wait=True)
    try:
        return _add({**variables, "CNI_NETNS": netns}, config, record)
    except CniError as error:
        gone = "the port is gone now: restart the container, or `cni-ovs attach` it anew"
        error.details = f"{error.details}; {gone}" if error.details else gone
        raise


def _variables(port: Port, record: Record) -> dict[str, str]:
    """Those of the attachment that a port is recorded to belong to."""
    recorded_ids = port.external_ids
    pods = {"K8S_POD_NAMESPACE": "contPodNamespace", "K8S_POD_NAME": "contPodName", "K8S_POD_UID": "contPodUid"}
    known = [f"{theirs}={recorded_ids[ours]}" for theirs, ours in pods.items() if recorded_ids.get(ours)]
    return {
        "CNI_CONTAINERID": recorded_ids.get("contID", ""),
        "CNI_NETNS": recorded_ids.get("contNetns", ""),
        "CNI_IFNAME": recorded_ids.get("contIface", ""),
        "CNI_PATH": record.cni_path or PLUGIN_FOLDERS,
        "CNI_ARGS": ";".join(["IgnoreUnknown=1", *known]),
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


def ports_of(switch: OpenVSwitch, text: str, ifname: str | None = None) -> list[tuple[Bridge, Port]]:
    """The ports of ours that are a container's, which need not run any more.

    Args:
        switch: what is in Open vSwitch.
        text: TARGET; if nothing of that name runs, it may also be what is recorded with a port.
        ifname: only that of this interface.

    Raises:
        Failure: there is none.
    """
    try:
        target = targets.find(text)
    except Failure:
        found = [(bridge, port) for bridge, port in switch.attached() if _is_recorded(port.external_ids, text)]
        if not found:
            raise
    else:
        found = [(bridge, port) for bridge, port in switch.attached() if _is_of(port.external_ids, target)]
    there = [port.external_ids.get("contIface", "") for _, port in found]
    found = [(bridge, port) for bridge, port in found if ifname in (None, port.external_ids.get("contIface"))]
    if not found:
        what = "nothing" if ifname is None else f"no interface {ifname!r}"
        raise Failure(f"{text!r} has {what} attached", f"it has {', '.join(there)}" if there else "see `cni-ovs show`")
    return found


def _is_of(external_ids: dict[str, str], target: Target) -> bool:
    if external_ids.get("contID") == target.container_id:
        return True
    try:
        return kernel.identity(external_ids.get("contNetns", "")) == target.identity
    except (OSError, ValueError):
        return False


def _is_recorded(external_ids: dict[str, str], text: str) -> bool:
    """Whether a port is recorded to be that of a container of this name, id or path."""
    netns, container = external_ids.get("contNetns", ""), external_ids.get("contID", "")
    pod = f"{external_ids.get('contPodNamespace')}/{external_ids.get('contPodName')}"
    names = (external_ids.get(recorded.NAME), container, netns, netns.rpartition("/")[2], pod, pod.partition("/")[2])
    return text in names or (len(text) >= _SHORTEST_ID and container.startswith(text))
