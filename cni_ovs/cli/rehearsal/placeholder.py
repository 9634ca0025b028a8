"""Addresses that stand for those that an IPAM plugin would give: explaining an ADD must not take one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cni_ovs.plugin.config import NetworkConfig, lookup
from cni_ovs.plugin.errors import IPAM_FAILED, CniError
from cni_ovs.plugin.result import Result, parse, render

# For documentation: RFC 5737 and RFC 3849.
_IPV4 = {"address": "192.0.2.2/24", "gateway": "192.0.2.1"}
_IPV6 = {"address": "2001:db8::2/64", "gateway": "2001:db8::1"}


def addresses(config: NetworkConfig, version: str) -> tuple[Result | None, bool]:
    """What IPAM would answer, as far as it is known without asking; None without IPAM.

    Args:
        config: the network's.
        version: of the answer; that in which ADD is called.

    Returns:
        The answer, and whether it is the one that IPAM would give: `static` has it in its configuration.

    Raises:
        CniError: IPAM_FAILED, when what is written there is no address.
    """
    if config.ipam_type is None:
        return None, False
    section = lookup(config.values, "ipam")
    fixed = _fixed(config.values, section) if config.ipam_type == "static" else []
    routes = [route for route in lookup(section, "routes") or () if isinstance(route, dict)]
    if not fixed:
        families = set(_families(section)) or {4}
        fixed = [placeholder for family, placeholder in ((4, _IPV4), (6, _IPV6)) if family in families]
        # A gateway that is no neighbour of these the kernel would refuse.
        routes = [{key: value for key, value in route.items() if key.lower() != "gw"} for route in routes]
        return _parsed(config, version, {"ips": fixed, "routes": routes}), False
    return _parsed(config, version, {"ips": fixed, "routes": routes, "dns": lookup(section, "dns") or {}}), True


def _parsed(config: NetworkConfig, version: str, answer: dict[str, Any]) -> Result:
    try:
        return parse(render(parse(answer), version))  # without what that version has no place for
    except ValueError as error:
        raise CniError(
            IPAM_FAILED, f"IPAM plugin {config.ipam_type!r} would refuse its configuration: {error}"
        ) from error


def _fixed(values: dict[str, Any], section: dict[str, Any]) -> list[Any]:
    """The addresses that `static` takes: the first of `runtimeConfig.ips`, `args.cni.ips` and its own."""
    for path in (("runtimeConfig", "ips"), ("args", "cni", "ips")):
        found: Any = values
        for key in path:
            found = lookup(found, key) if isinstance(found, dict) else None
        if isinstance(found, list) and found:
            return [{"address": address} for address in found]
    own = lookup(section, "addresses")
    return list(own) if isinstance(own, list) else []


def _families(value: Any) -> Iterator[int]:
    """4 and 6, for each network that is named in an `ipam` section outside of its routes."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key.lower() != "routes":
                yield from _families(item)
    elif isinstance(value, list):
        for item in value:
            yield from _families(item)
    elif isinstance(value, str) and "/" in value and not value.startswith("/"):
        yield 6 if ":" in value else 4
