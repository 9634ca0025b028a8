"""Results: of IPAM plugins, of the plugin before us in a chain, and our own; and their form in every spec version.

Inside the plugin a result has the form of version 1.1.0, whatever it was read from.
"""

from __future__ import annotations

from .config import lookup
from .forms import is_integer
from .inet import parse_cidr, parse_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LEGACY = ("0.1.0", "0.2.0")
_WITH_IP_VERSION = ("0.3.0", "0.3.1", "0.4.0")
_NEWEST = "1.1.0"
_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")


class Result:
    """A CNI result.

    Attributes:
        interfaces: objects with `name` and where known `mac`, `mtu`, `sandbox`, and whatever else came in.
        ips: objects with `address` (a CIDR), and where known `gateway` and `interface` (index into interfaces).
        routes: objects with `dst` (a CIDR), and where given `gw`, `mtu`, `advmss`, `priority`, `table`, `scope`.
        dns: the `dns` object, perhaps empty.
    """

    __slots__ = ("dns", "interfaces", "ips", "routes")

    def __init__(self) -> None:
        self.interfaces: list[dict[str, Any]] = []
        self.ips: list[dict[str, Any]] = []
        self.routes: list[dict[str, Any]] = []
        self.dns: dict[str, Any] = {}


def parse(values: Any) -> Result:
    """A result in the form of any version.

    Raises:
        ValueError: it has not the form of a result; the text names the part.
    """
    if not isinstance(values, dict):
        raise ValueError("a result must be an object")
    result = Result()
    result.dns = _part(values, "dns", dict)
    if lookup(values, "ip4") is not None or lookup(values, "ip6") is not None:
        for family in ("ip4", "ip6"):
            _parse_legacy(_part(values, family, dict), result)
        return result
    for interface in _objects(values, "interfaces"):
        result.interfaces.append(_parse_interface(interface))
    for ip in _objects(values, "ips"):
        result.ips.append(_parse_ip(ip, len(result.interfaces)))
    for route in _objects(values, "routes"):
        result.routes.append(_parse_route(route))
    return result


def _parse_interface(interface: dict[str, Any]) -> dict[str, Any]:
    """The interface, with the keys that this plugin reads under their exact names."""
    _expect(interface, "name", str)
    known = {key: lookup(interface, key) for key in ("name", "mac", "mtu", "sandbox")}
    others = {key: value for key, value in interface.items() if key.lower() not in known}
    return {key: value for key, value in known.items() if value is not None} | others


def _parse_ip(ip: dict[str, Any], interfaces: int) -> dict[str, Any]:
    found = {"address": _expect(ip, "address", str)}
    family = parse_cidr(found["address"])[0]
    gateway = lookup(ip, "gateway")
    if gateway:
        found["gateway"] = gateway
        if parse_ip(_expect(ip, "gateway", str))[0] != family:
            raise ValueError(f"gateway {gateway!r} is of another family than {found['address']!r}")
    index = lookup(ip, "interface")
    if index is not None:
        # IPAM plugins answer without `interfaces`; then the index means nothing.
        if not is_integer(index) or not 0 <= index < max(interfaces, 1 << 16):
            raise ValueError(f"'interface' of {found['address']!r} is not an index into 'interfaces'")
        found["interface"] = index
    return found


def _parse_route(route: dict[str, Any]) -> dict[str, Any]:
    found = {"dst": _expect(route, "dst", str)}
    family = parse_cidr(found["dst"])[0]
    gateway = lookup(route, "gw")
    if gateway:
        if parse_ip(_expect(route, "gw", str))[0] != family:
            raise ValueError(f"gateway {gateway!r} is of another family than the destination {found['dst']!r}")
        found["gw"] = gateway
    for key in _ROUTE_NUMBERS:
        number = lookup(route, key)
        if number is None:
            continue
        if not is_integer(number) or not 0 <= number < (256 if key == "scope" else 1 << 32):
            raise ValueError(f"{key!r} of the route to {found['dst']!r} is not a number the kernel takes")
        found[key] = number
    return found


def _parse_legacy(values: dict[str, Any], result: Result) -> None:
    """`ip4` or `ip6` of versions 0.1.0 and 0.2.0: one address, its gateway and its routes."""
    if not values:
        return
    ip = {"address": _expect(values, "ip", str), "gateway": lookup(values, "gateway")}
    result.ips.append(_parse_ip(ip, 0))
    for route in _objects(values, "routes"):
        result.routes.append(_parse_route(route))


def _part(values: dict[str, Any], key: str, kind: type[Any]) -> Any:
    found = lookup(values, key)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise ValueError(f"{key!r} is not {'an object' if kind is dict else 'a list'}")
    return found


def _objects(values: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _part(values, key, list)
    for item in found:
        if not isinstance(item, dict):
            raise ValueError(f"{key!r} has an item that is no object")
    return found


def _expect(values: dict[str, Any], key: str, kind: type[Any]) -> Any:
    found = lookup(values, key)
    if not isinstance(found, kind):
        raise ValueError(f"{key!r} is missing or is not a {'string' if kind is str else kind.__name__}")
    return found


def needs_address(version: str) -> bool:
    """Whether a result of this version cannot be without an address."""
    return version in _LEGACY


def render(result: Result, version: str) -> dict[str, Any]:
    """The form of a result in a spec version; what that version does not have is left out."""
    if version in _LEGACY:
        return _render_legacy(result, version)
    rendered: dict[str, Any] = {"cniVersion": version}
    newest = version == _NEWEST
    if result.interfaces:
        rendered["interfaces"] = [
            {k: v for k, v in interface.items() if newest or k in ("name", "mac", "sandbox")}
            for interface in result.interfaces
        ]
    if result.ips:
        with_version = version in _WITH_IP_VERSION
        rendered["ips"] = [{"version": _family(ip["address"]), **ip} if with_version else ip for ip in result.ips]
    if result.routes:
        rendered["routes"] = [
            {k: v for k, v in route.items() if newest or k in ("dst", "gw")} for route in result.routes
        ]
    if result.dns:
        rendered["dns"] = result.dns
    return rendered


def _render_legacy(result: Result, version: str) -> dict[str, Any]:
    rendered: dict[str, Any] = {"cniVersion": version}
    for ip in result.ips:
        key = "ip" + _family(ip["address"])
        if key in rendered:
            continue  # this form has room for one address of each family
        rendered[key] = {"ip": ip["address"]}
        if "gateway" in ip:
            rendered[key]["gateway"] = ip["gateway"]
        routes = [
            {k: v for k, v in route.items() if k in ("dst", "gw")}
            for route in result.routes
            if "ip" + _family(route["dst"]) == key
        ]
        if routes:
            rendered[key]["routes"] = routes
    if result.dns:
        rendered["dns"] = result.dns
    return rendered


def _family(cidr: str) -> str:
    return "6" if ":" in cidr else "4"
