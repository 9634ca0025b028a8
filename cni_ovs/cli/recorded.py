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

from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin.result import Result, parse

from .database import Bridge, Port

KEY = "cniOvsAttach"  # of external_ids
NAME = "contName"  # the container's, in external_ids
CACHE = Path("/var/lib/cni/results")  # libcni/api.go, CacheDir
_LARGEST = 4 << 20


@dataclass(frozen=True)
class Record:
    """What an attachment was made with.

    Attributes:
        config: the configuration of the plugin `ovs`.
        ips, routes: what it was given, in the form of a CNI result; empty where that is not known.
        cni_path: CNI_PATH; "" where that is not known.
        source: where this is from, for people.
        others: the types of the plugins behind ours in the chain.
    """

    config: dict[str, Any]
    ips: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    cni_path: str = ""
    source: str = ""
    others: tuple[str, ...] = ()

    def text(self) -> str:
        """What is written into external_ids."""
        values = {"config": self.config, "ips": self.ips, "routes": self.routes, "cniPath": self.cni_path}
        return json.dumps(values, separators=(",", ":"))


def known_as(external_ids: dict[str, str]) -> str:
    """What people call the container of a port: its pod, or its name in the runtime; "" where neither is recorded."""
    pod = external_ids.get("contPodName", "")
    if not pod:
        return external_ids.get(NAME, "")
    return f"{external_ids['contPodNamespace']}/{pod}" if external_ids.get("contPodNamespace") else pod


def of(bridge: Bridge, port: Port) -> Record:
    """What a port of ours was made with: recorded, cached, or as far as its rows tell."""
    return known(port.name, port.external_ids) or _from_rows(bridge, port)


def known(name: str, external_ids: dict[str, str]) -> Record | None:
    """What an attachment was made with, if that is recorded or cached; its port may be gone."""
    return _recorded(name, external_ids) or _cached(external_ids)


def recorded(port: Port) -> Record | None:
    """What `cni-ovs attach` has recorded; None if it did not make this port."""
    return _recorded(port.name, port.external_ids)


def _recorded(name: str, external_ids: dict[str, str]) -> Record | None:
    try:
        values = json.loads(external_ids[KEY])
        config, ips, routes = _object(values["config"]), _objects(values["ips"]), _objects(values["routes"])
        return Record(config, ips, routes, str(values["cniPath"]), f"external_ids:{KEY} of port {name}")
    except (LookupError, ValueError, TypeError, RecursionError):
        return None


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
        result = _ours(cached.get("result"), external_ids)
    except (OSError, LookupError, ValueError, TypeError, StopIteration, RecursionError):
        return None
    others = tuple(str(plugin.get("type")) for plugin in plugins[position + 1 :])
    return Record(config, result.ips, result.routes, source=str(path), others=others)


def _ours(result: Any, external_ids: dict[str, str]) -> Result:
    """Of a result the addresses that are our interface's, and the routes."""
    parsed = parse(result)
    mine = [
        index
        for index, interface in enumerate(parsed.interfaces)
        if interface["name"] == external_ids["contIface"] and interface.get("sandbox")
    ]
    # The oldest versions of results have one interface, and do not name it.
    parsed.ips = [
        {key: value for key, value in ip.items() if key != "interface"}
        for ip in parsed.ips
        if not parsed.interfaces or ip.get("interface") in mine
    ]
    return parsed


def _from_rows(bridge: Bridge, port: Port) -> Record:
    """What the rows of the port tell: not the addresses, and nothing that Open vSwitch is not told."""
    interface = port.interface
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
        "external_ids": {key: value for key, value in port.external_ids.items() if key not in attachments.RECORDED_IDS},
    }
    source = f"the rows of port {port.name}"
    return Record({key: value for key, value in config.items() if value is not None}, source=source)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("no object")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return [_object(item) for item in value]
