"""What a rehearsed ADD has done, in steps: each with a sentence, and with what was sent in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cni_ovs.plugin.config import lookup
from cni_ovs.plugin.errors import BRIDGE_NOT_FOUND, TRY_AGAIN_LATER, CniError
from cni_ovs.plugin.ipam import find
from cni_ovs.plugin.ovn import INSTALLED
from cni_ovs.plugin.ovsdb import map_of

from .rehearsal import Request, rehearse
from .standin import OFPORT

Record = dict[str, Any]

# What nothing is made of but by a running Open vSwitch with the bridge: then one is pretended.
_NOT_THERE = (TRY_AGAIN_LATER, BRIDGE_NOT_FOUND)

_SENTENCES = {
    "look": "Ask Open vSwitch for the bridge, and whether the name of the port is free.",
    "progress": "Wait until ovs-vswitchd has done what it was told before.",
    "ask": "Ask Open vSwitch.",
    "insert": "Insert the port into the bridge; all of it, or nothing if the bridge is gone.",
    "remove": "Remove a port from its bridge.",
    "change": "Change Open vSwitch's database.",
    "ofport": "Wait until ovs-vswitchd has given the port an OpenFlow number.",
    "ovn": "Wait until ovn-controller has installed the flows of the logical port.",
    "device": "Make a veth pair; its other end is made in the container's namespace.",
    "delete": "Delete a device.",
    "move": "Move the port's device into the container, and give it its name, MAC and MTU.",
    "accept_ra": "Let the host's end take no address from the container's advertisements.",
    "offload": "Let the container's kernel compute checksums: this datapath does not.",
    "limits": "Limit how fast the container may send, and where Open vSwitch cannot, receive.",
    "up": "Set the container's end up, and wait until packets can pass.",
    "ipam": "Ask the IPAM plugin for addresses.",
    "flows": "Let only what is the container's own leave its port: OpenFlow rules.",
    "addresses": "Set addresses and routes, and announce them to the neighbours.",
    "file": "Write the device-information file for the runtime.",
    "log": "Go on.",
}


@dataclass
class Step:
    """A step, and what is sent in it: records as of Recorder, or one of the kind `ipam`."""

    key: str
    records: list[Record] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """What it is for."""
        return _SENTENCES[self.key]


@dataclass
class Explanation:
    """What ADD does with one network configuration.

    Attributes:
        network, bridge, port: their names; "" if the configuration is refused.
        request: what was asked for.
        pretended: whether the steps are for an Open vSwitch that is not there.
        steps: in their order.
        result: what ADD prints, or None.
        error: why ADD fails, or None; an object with code, msg and details.
        notes: what has to be known to read the steps.
        warnings: what the plugin logs as such.
    """

    network: str
    bridge: str
    port: str
    request: Request
    pretended: bool
    steps: list[Step]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    notes: list[str]
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "network": self.network,
            "bridge": self.bridge,
            "port": self.port,
            "container": self.request.container_id,
            "ifname": self.request.ifname,
            "netns": self.request.netns,
            "pretended": self.pretended,
            "steps": [{"sentence": step.sentence, "actions": step.records} for step in self.steps],
            "result": self.result,
            "error": self.error,
            "notes": self.notes,
            "warnings": self.warnings,
        }


def explain(request: Request, cni_path: str, datapath: str) -> Explanation:
    """Rehearse an ADD and tell of it; where Open vSwitch or the bridge is not there, with a pretended one.

    Args:
        request: which.
        cni_path: CNI_PATH, where the IPAM plugin is looked for.
        datapath: of a pretended bridge, unless the request has one; "" for the one that fits.

    Raises:
        Failure: as rehearse.
    """
    report = rehearse(request)
    error, pretended = report["error"], request.pretended is not None
    if error is not None and error["code"] in _NOT_THERE and not pretended:
        pretended = True
        report = rehearse(Request(**{**vars(request), "pretended": datapath}))
    names, ipam = report.get("names", {}), report.get("ipam", {})
    logged = [record["text"] for record in report["records"] if record.get("level") in ("warning", "error")]
    steps = steps_of(report["records"])
    notes = _notes(request, report, steps)
    if ipam.get("type"):
        _add_ipam(steps, ipam["type"], cni_path, logged)
    return Explanation(
        network=names.get("network", ""),
        bridge=names.get("bridge", ""),
        port=names.get("port", ""),
        request=request,
        pretended=pretended,
        steps=steps,
        result=report["result"],
        error=error or report["error"],
        notes=notes,
        warnings=list(dict.fromkeys(logged)),
    )


def _notes(request: Request, report: dict[str, Any], steps: list[Step]) -> list[str]:
    records, ipam = report["records"], report.get("ipam", {})
    notes = []
    if ipam.get("type") and not ipam["known"]:
        notes.append(
            f"IPAM is not asked, since it would give out an address. 192.0.2.2 and 2001:db8::2, addresses for"
            f" documentation, stand for those of {ipam['type']!r}; its routes are those in CONF, but by these gateways."
        )
    if ipam.get("type") and any(step.key == "remove" for step in steps):
        notes.append(
            "With a port that is removed, its address is returned by the IPAM plugin, and until then the bridge has a"
            " note of it; that is not shown."
        )
    if any(record["kind"] == "transaction" and record["changes"] for record in records):
        notes.append("The UUID of the port, and each MAC address that is not configured, are others in each run.")
    if any(f"in_port={OFPORT}" in record["text"] or "OFPORT" in record["text"] for record in _of(records, "openflow")):
        notes.append("OFPORT stands for the OpenFlow number that ovs-vswitchd will give the port.")
    if report["suspects"]:
        notes.append(
            f"ADD also looks at other ports that have no device ({report['suspects']}), and removes those of this"
            " network whose containers are gone."
        )
    log_file = lookup(request.values, "log_file")
    if isinstance(log_file, str):
        notes.append(f"ADD also writes what it logs to {log_file!r}.")
    return notes


def _of(records: list[Record], kind: str) -> list[Record]:
    return [record for record in records if record["kind"] == kind]


def steps_of(records: list[Record]) -> list[Step]:
    """The records in steps; what belongs to the same step and follows each other is together."""
    steps: list[Step] = []
    has_port = False
    for record in records:
        if record["kind"] == "log" and record["level"] != "debug":
            continue  # told as a warning
        before = steps[-1].key if steps else ""
        key = before if record["kind"] == "log" and before else _key(record, before, has_port=has_port)
        if key != before or record["kind"] == "transaction":
            steps.append(Step(key))
        steps[-1].records.append(record)
        has_port |= key == "insert"
    return steps


def _key(record: Record, before: str, *, has_port: bool) -> str:
    """Which step a record belongs to.

    Args:
        record: which.
        before: the step so far.
        has_port: whether the port was inserted earlier.
    """
    kind = record["kind"]
    if kind == "transaction":
        return _key_of_transaction(record, has_port=has_port)
    if kind == "sysctl":
        return "accept_ra" if record["key"].endswith("/accept_ra") else "addresses"
    if kind == "netlink":
        return _key_of_message(record, before)
    return {"ethtool": "offload", "openflow": "flows"}.get(kind, str(kind))


def _key_of_transaction(record: Record, *, has_port: bool) -> str:
    operations = record["operations"]
    if not record["changes"]:
        conditions = [condition for operation in operations for condition in operation.get("where", ())]
        if ["external_ids", "includes", map_of(INSTALLED)] in conditions:
            return "ovn"
        columns = [operation.get("columns") for operation in operations]
        if ["cur_cfg"] in columns:
            return "progress"
        if has_port:
            return "ofport" if any("ofport" in names for names in columns if names) else "ask"
        return "look"
    if any(operation["op"] == "insert" and operation["table"] == "Port" for operation in operations):
        return "insert"
    removes = any(
        each[:2] == ["ports", "delete"] for operation in operations for each in operation.get("mutations", ())
    )
    return "remove" if removes else "change"


def _key_of_message(record: Record, before: str) -> str:
    message, attributes = record["message"], record["attributes"]
    if message in ("RTM_NEWQDISC", "RTM_NEWTFILTER"):
        return "limits"
    if message in ("RTM_NEWADDR", "RTM_NEWROUTE"):
        return "addresses"
    if message == "RTM_DELLINK":
        return "delete"
    if message == "RTM_NEWLINK":
        return "device" if attributes["IFLA_LINKINFO"]["IFLA_INFO_KIND"] == "veth" else "limits"
    if "IFLA_AF_SPEC" in attributes:
        return "device"
    if message == "RTM_SETLINK" and attributes["change"]:
        return before if before == "limits" and str(attributes.get("IFLA_IFNAME")).startswith("ifb") else "up"
    return before if before == "addresses" else "move"


def _add_ipam(steps: list[Step], plugin: str, cni_path: str, warnings: list[str]) -> None:
    """Say when IPAM is asked: as soon as the port is sent; `dhcp` speaks over the interface, so when that is up."""
    after = [number for number, step in enumerate(steps) if step.key == ("up" if plugin == "dhcp" else "ofport")]
    if not after:
        return
    try:
        program = find(plugin, cni_path)
    except CniError as error:
        program = None
        warnings.append(f"{error.msg}; ADD fails where that is the runtime's CNI_PATH too")
    where = f"in CNI_PATH {cni_path}"
    text = f"{program or plugin} (ADD), as it is {where}" if program else f"{plugin} (ADD), which is not {where}"
    step = Step("ipam", [{"kind": "ipam", "type": plugin, "program": program, "text": text}])
    steps.insert(after[-1 if plugin == "dhcp" else 0] + 1, step)
