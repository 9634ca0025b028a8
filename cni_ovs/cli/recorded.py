"""What an attachment was made with: as `cni-ovs attach` records it in its port, or as libcni keeps it for a runtime.

An attachment of `cni-ovs attach` has its configuration in the external_ids of its port, so that `detach` and `reattach`
need no file. Those of runtimes that use libcni (containerd, CRI-O, podman, Multus) are in libcni's cache.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from cni_ovs.plugin.attachment import BY_HAND, RECORDED_IDS, name_of
from cni_ovs.plugin.config import lookup
from cni_ovs.plugin.jsontext import shown
from cni_ovs.plugin.result import parse

from . import kernel
from .database import Bridge, Port
from .failure import Failure

NAME = "contName"  # the container's, in external_ids
INTERRUPTED = "cniOvsReattach"  # in a note: with what `cni-ovs reattach` was making it anew
CACHE = Path("/var/lib/cni/results")  # libcni/api.go, CacheDir
_LARGEST = 4 << 20


@dataclass(frozen=True)
class Record:
    """What an attachment was made with.

    Attributes:
        config: the configuration of the plugin `ovs`.
        ips, routes, mac: what it was given, in the form of a CNI result; empty where that is not known.
        cni_path: CNI_PATH; "" where that is not known.
        process: which process the namespace was named by, see `kernel.process`; "" if it has a path of its own.
        others: the types of the plugins behind ours in the chain.
        host_mac: the MAC of the host's end of a veth pair, which a runtime's CHECK expects; "" if it is not known.
        mirrors: those that its port was part of when that was removed, as mirrored.py has them.
    """

    config: dict[str, Any]
    ips: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    mac: str = ""
    cni_path: str = ""
    process: str = ""
    others: tuple[str, ...] = ()
    host_mac: str = ""
    mirrors: dict[str, list[str]] = field(default_factory=dict)

    def text(self) -> str:
        """What is written into external_ids."""
        values = {"config": self.config, "ips": self.ips, "routes": self.routes, "mac": self.mac}
        more = {"cniPath": self.cni_path, "process": self.process, "hostMac": self.host_mac}
        rest = {"others": self.others, "mirrors": self.mirrors}
        return json.dumps({**values, **more, **rest}, separators=(",", ":"))


def known_as(external_ids: dict[str, str]) -> str:
    """What people call the container of a port: its pod, or its name in the runtime; "" where neither is recorded."""
    pod = external_ids.get("contPodName", "")
    if not pod:
        return external_ids.get(NAME, "")
    return f"{external_ids['contPodNamespace']}/{pod}" if external_ids.get("contPodNamespace") else pod


def known(external_ids: dict[str, str]) -> Record | None:
    """What an attachment was made with, if that is recorded or cached; its port may be gone."""
    return by_hand(external_ids) or interrupted(external_ids) or _cached(external_ids)


def by_hand(external_ids: dict[str, str]) -> Record | None:
    """What `cni-ovs attach` has recorded; None if it did not make this attachment."""
    return _recorded(BY_HAND, external_ids)


def interrupted(external_ids: dict[str, str]) -> Record | None:
    """What `cni-ovs reattach` noted before it removed the port; None if it did not."""
    return _recorded(INTERRUPTED, external_ids)


def is_process_gone(external_ids: dict[str, str]) -> bool:
    """Whether the namespace was named by a process that has ended: another one may have got its number."""
    record = by_hand(external_ids) or interrupted(external_ids)
    return record is not None and record.process not in ("", kernel.process(external_ids.get("contNetns", "")))


def _recorded(key: str, external_ids: dict[str, str]) -> Record | None:
    """What is recorded there; None if nothing is, or nothing that has the form of a record.

    A row may be wrong. So only the other external_ids tell whose the attachment is, and no file is written because a
    row says so, nor read.
    """
    try:
        values = json.loads(external_ids[key])
        config = {key: value for key, value in _object(values["config"]).items() if key.lower() not in _NOT_TAKEN}
        given = parse({"ips": values["ips"], "routes": values["routes"]})  # ValueError, if they are none
        for route, its in zip(given.routes, values["routes"] or (), strict=True):
            if its.get("onlink"):
                route["onlink"] = True
        config |= {"name": external_ids["contNetwork"], "type": "ovs"}
        mac, cni_path, process, host_mac = (
            str(values.get(key, "")) for key in ("mac", "cniPath", "process", "hostMac")
        )
        others, mirrors = tuple(_texts(values.get("others", []))), _object(values.get("mirrors", {}))
        uuids = {column: [str(UUID(text)) for text in _texts(texts)] for column, texts in mirrors.items()}
        return Record(config, given.ips, given.routes, mac, cni_path, process, others, host_mac, uuids)
    except (LookupError, ValueError, TypeError, RecursionError):
        return None


_NOT_TAKEN = ("name", "type", "log_file", "configuration_path")


def _cached(external_ids: dict[str, str]) -> Record | None:
    """What libcni has kept (cniCacheV1)."""
    names = [external_ids.get(key, "") for key in ("contNetwork", "contID", "contIface")]
    if not all(names) or any("/" in name for name in names):
        return None
    path = CACHE / "-".join(names)
    try:
        with path.open("rb") as stream:
            cached = _object(json.loads(stream.read(_LARGEST)))
        chain = _object(json.loads(base64.b64decode(cached["config"])))
        plugins = _objects(chain.get("plugins", [chain]))
        position = next(i for i, plugin in enumerate(plugins) if plugin.get("type") == "ovs")
        config = {**plugins[position], "name": chain["name"], "cniVersion": chain.get("cniVersion", "0.1.0")}
        asked = _object(cached.get("capabilityArgs") or {})
        able = _object(config.get("capabilities") or {})
        config["runtimeConfig"] = {key: value for key, value in asked.items() if able.get(key)}
        others = tuple(str(plugin.get("type")) for plugin in plugins[position + 1 :])
        what = given(cached.get("result"), external_ids["contIface"], name_of(external_ids))
        return Record(config, **what, others=others)
    except (OSError, LookupError, ValueError, TypeError, StopIteration, RecursionError):
        return None


def given(result: Any, ifname: str, port: str) -> dict[str, Any]:
    """Of a CNI result what a record has: the addresses and MACs that are of our interface or port, and the routes.

    Raises:
        ValueError: it has not the form of a result.
    """
    parsed = parse(result)
    mine = [
        index
        for index, interface in enumerate(parsed.interfaces)
        if interface["name"] == ifname and interface.get("sandbox")
    ]
    # The oldest versions of results have one interface, and do not name it.
    ips = [
        {key: value for key, value in ip.items() if key != "interface"}
        for ip in parsed.ips
        if not parsed.interfaces or ip.get("interface") in mine
    ]
    inner = [parsed.interfaces[index] for index in mine[-1:]]
    outer = [one for one in parsed.interfaces if one["name"] == port and not one.get("sandbox")]
    mac, host_mac = (str(found[0].get("mac", "")) if found else "" for found in (inner, outer))
    return {"ips": ips, "routes": parsed.routes, "mac": mac, "host_mac": host_mac}


def from_rows(bridge: Bridge, port: Port) -> Record:
    """What the rows of the port tell: not the addresses, and nothing that Open vSwitch is not told."""
    interface = port.interface
    not_ours = (*RECORDED_IDS, BY_HAND, NAME)
    config: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "name": port.external_ids.get("contNetwork", ""),
        "type": "ovs",
        "bridge": bridge.name,
        "interface_type": (interface.type if interface else "") or "veth",
        "vlan": port.tag,
        "trunk": [{"id": number} for number in port.trunks] or None,
        "cvlans": [{"id": number} for number in port.cvlans] or None,
        "vlan_mode": port.vlan_mode,
        "mtu": interface.mtu_request if interface else None,
        "ofport_request": interface.ofport_request if interface else None,
        "external_ids": {key: value for key, value in port.external_ids.items() if key not in not_ours},
    }
    return Record({key: value for key, value in config.items() if value is not None})


def with_ovn_port(config: dict[str, Any], port: str | None) -> dict[str, Any]:
    """A configuration with this logical port of OVN, unless it names one: CNI_ARGS, which nobody keeps, may have done.

    Raises:
        Failure: `args` has not its form.
    """
    if port is None:
        return config
    args = added(config, "args", {})["args"]
    inner = added(args, "cni", {})["cni"]
    if lookup(inner, "ovnPort"):
        return config
    return added(config, "args", added(args, "cni", {"ovnPort": port}))


def added(config: dict[str, Any], key: str, more: dict[str, Any]) -> dict[str, Any]:
    """A configuration with more in the object that is the value of a key.

    Raises:
        Failure: it is no object.
    """
    there = lookup(config, key)
    if there is not None and not isinstance(there, dict):
        raise Failure(f"invalid {key!r}: {shown(there)}: must be an object")
    others = {name: value for name, value in config.items() if name.lower() != key.lower()}
    return {**others, key: {**(there or {}), **more}}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("no list of texts")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return [_object(item) for item in value]
