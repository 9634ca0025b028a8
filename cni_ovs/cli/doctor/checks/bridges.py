"""Bridges: that they are there, made, and have rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cni_ovs.plugin.config import DEFAULT_SOCKET
from cni_ovs.plugin.vswitch import USERSPACE

from ...configurations.runtime_files import string
from ...database import Bridge, OpenVSwitch
from ..examination import Check
from ..machine import Machine
from ..problems import FAULT, Finding, Problem, Skip

_SECONDS = 1.0  # for one bridge's answer
_MODULE = Path("/sys/module/openvswitch")
# Of OpenFlow, as ovs-ofctl tells of it and as it is told it. A bridge may be limited to some (`protocols`).
_VERSIONS = {f"OF1.{number}": f"OpenFlow1{number}" for number in range(6)}

BRIDGE_MISSING = Problem(
    "bridge_missing",
    FAULT,
    "bridge {bridge} does not exist in Open vSwitch; network {network} needs it",
    "nobody has made it on this node, or somebody removed it",
    command="{vsctl} add-br {bridge} {datapath}",
)
KERNEL_MODULE_MISSING = Problem(
    "kernel_module_missing",
    FAULT,
    "bridge {bridge} needs the kernel's Open vSwitch module, which is not loaded",
    "the kernel has none, or it was not loaded at boot",
    "load it, or use the userspace datapath (ovs-vsctl set bridge {bridge} datapath_type=netdev):",
    "modprobe openvswitch",
)
BRIDGE_NOT_MADE = Problem(
    "bridge_not_made",
    FAULT,
    "ovs-vswitchd has not made bridge {bridge}",
    "it cannot, for the reason in its log",
    "see its log, ovs-vswitchd.log",
)
BRIDGE_DROPS = Problem(
    "bridge_drops",
    FAULT,
    "bridge {bridge} has no OpenFlow rules, so it drops every packet",
    "somebody removed them, or fail_mode is secure, and it has no controller that gives any",
    "let it switch:",
    "ovs-ofctl {version} add-flow {switch} actions=NORMAL",
)
CONTROLLER_SILENT = Problem(
    "controller_silent",
    FAULT,
    "bridge {bridge} drops every packet: {controller} has given it no OpenFlow rules",
    "fail_mode is secure, and the controller (of OVN: ovn-controller) is not running, or cannot be reached",
    "see that {controller} runs and is connected",
)


def present(machine: Machine) -> Iterator[Finding]:
    """Every bridge that a configuration names exists."""
    wanted: dict[str, str] = {}
    for network, plugin in machine.networks:
        bridge = string(plugin, "bridge")
        if bridge:
            wanted.setdefault(bridge, network)
    if not wanted:
        raise Skip("no network configuration names a bridge")
    open_vswitch = machine.open_vswitch
    for name, network in wanted.items():
        if open_vswitch.bridge(name) is None:
            # As the others, if they all are in userspace: the kernel has no module there, probably.
            userspace = open_vswitch.bridges and all(b.datapath_type == USERSPACE for b in open_vswitch.bridges)
            more = ["--", "set", "bridge", name, f"datapath_type={USERSPACE}"] if userspace else []
            yield BRIDGE_MISSING.found(bridge=name, network=network, vsctl=machine.vsctl, datapath=more)


def made(machine: Machine) -> Iterator[Finding]:
    """ovs-vswitchd has made every bridge."""
    bridges = machine.open_vswitch.bridges
    machine.need_ovs_vswitchd()
    for bridge in bridges:
        if bridge.datapath_id is not None:
            continue
        if bridge.datapath_type in ("", "system") and not _MODULE.exists():
            yield KERNEL_MODULE_MISSING.found(bridge=bridge.name)
        else:
            yield BRIDGE_NOT_MADE.found(bridge=bridge.name)


def rules(machine: Machine) -> Iterator[Finding]:
    """Every bridge with attachments has OpenFlow rules, or it drops everything."""
    bridges = {attached.bridge.name: attached.bridge for attached in machine.attached}
    machine.need_ovs_vswitchd()
    if not machine.address.startswith("unix:") or shutil.which("ovs-ofctl") is None:
        raise Skip("there is no ovs-ofctl here, or Open vSwitch is on another machine")
    for bridge in bridges.values():
        count, version = _rules(machine, bridge)
        controller = _controller(machine.open_vswitch, bridge)
        if count == 0 and controller:
            yield CONTROLLER_SILENT.found(bridge=bridge.name, controller=controller)
        elif count == 0:
            switch = bridge.name if machine.address == DEFAULT_SOCKET else _management(machine, bridge)
            words = [] if version == "OpenFlow10" else ["-O", version]
            yield BRIDGE_DROPS.found(bridge=bridge.name, switch=switch, version=words)


def _controller(open_vswitch: OpenVSwitch, bridge: Bridge) -> str:
    """Who gives a bridge its rules; "" for nobody."""
    if bridge.controllers:
        return f"controller {', '.join(bridge.controllers)}"
    ids = open_vswitch.external_ids  # of OVN: see ovn-controller(8)
    return "ovn-controller" if "ovn-remote" in ids and ids.get("ovn-bridge", "br-int") == bridge.name else ""


def _management(machine: Machine, bridge: Bridge) -> str:
    """Where ovs-ofctl reaches a bridge."""
    return f"unix:{machine.folder / bridge.name}.mgmt"


def _rules(machine: Machine, bridge: Bridge) -> tuple[int | None, str]:
    """How many OpenFlow rules a bridge has, None if that is not to be known; and the version that it speaks."""
    command = ["ovs-ofctl", "-O", ",".join(_VERSIONS.values()), "dump-aggregate", _management(machine, bridge)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None, ""
    answer, _, count = done.stdout.partition("flow_count=")
    digits = count.split()[0] if count.split() else ""
    version = next((name for number, name in _VERSIONS.items() if f"({number})" in answer), "OpenFlow10")
    return (int(digits) if digits.isdecimal() and len(digits) < 10 else None), version


CHECKS = (
    Check(
        "bridges_present",
        "bridges that network configurations name",
        present,
        (BRIDGE_MISSING,),
        of_target=False,
    ),
    Check(
        "bridges_made",
        "bridges that ovs-vswitchd has to make",
        made,
        (KERNEL_MODULE_MISSING, BRIDGE_NOT_MADE),
        may_pass=True,
    ),
    Check(
        "bridge_rules",
        "OpenFlow rules of bridges with attachments",
        rules,
        (BRIDGE_DROPS, CONTROLLER_SILENT),
        may_pass=True,
    ),
)
