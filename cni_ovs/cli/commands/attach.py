"""`cni-ovs attach`: another interface for a running container."""

from __future__ import annotations

import ipaddress
from typing import Any

import click
from click.core import ParameterSource

from cni_ovs.plugin.config import lookup
from cni_ovs.plugin.errors import BRIDGE_NOT_FOUND, CniError
from cni_ovs.plugin.forms import ifname_problem
from cni_ovs.plugin.inet import parse_mac
from cni_ovs.plugin.result import parse
from cni_ovs.plugin.vlans import HIGHEST

from .. import attaching, database, kernel, options, recorded, targets
from ..configurations import files as configurations
from ..failure import Failure
from ..output import plain, print_json, say
from ..recorded import Record

_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def _ifname(_: click.Context, __: click.Parameter, value: str) -> str:
    problem = ifname_problem(value) if value else "it must not be empty"
    if problem:
        raise click.BadParameter(f"{value!r}: {problem}")
    return value


def _mac(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_mac(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} {error}") from error
    return value


@click.command(short_help="Give a running container another interface.")
@click.argument("target", type=options.TargetName())
@click.argument("ifname", callback=_ifname)
@click.argument("bridge", type=options.BridgeName(), required=False)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["veth", "internal", "tap"]),
    help="Kind of port: veth (a pair, the default), internal or tap (Open vSwitch makes the device).",
)
@click.option("--vlan", type=click.IntRange(0, 4094), help="Access VLAN; with --trunk the native VLAN.")
@click.option("--trunk", metavar="VLANS", help="VLANs of a trunk, such as 10,20-29.")
@click.option("--ip", "ips", multiple=True, metavar="CIDR", help="Address with prefix length; may be repeated.")
@click.option(
    "--gateway", "gateways", multiple=True, metavar="ADDRESS", help="Default route; one for IPv4 and IPv6 each."
)
@click.option("--mtu", type=click.IntRange(68, 65535), help="MTU of both ends; the kernel's default without it.")
@click.option("--mac", metavar="MAC", callback=_mac, help="MAC of the container's end; a random one without it.")
@click.option(
    "--from",
    "source",
    type=options.Configuration(),
    metavar="CONF",
    help="Network configuration: a file, or the name of a network.",
)
@options.cni_path
@options.db
@options.as_json
@click.pass_context
def command(ctx: click.Context, /, target: str, ifname: str, bridge: str | None, **given: Any) -> None:
    r"""Give the running container TARGET another interface IFNAME, on BRIDGE.

    TARGET is the name or id of a container (Docker, podman, containerd, CRI-O), a pod as NAMESPACE/NAME, the name or
    path of a network namespace, or the number of a process. Nothing has to be prepared: its namespace need not be
    visible under /var/run/netns, and nothing is left there.

    It does what the plugin's ADD does: when it returns, packets flow; when it fails, nothing is left. The port knows
    what it was made with, so that `cni-ovs detach TARGET IFNAME` undoes it, also when the container is gone.

    With --from the interface is made as a network configuration says, its IPAM plugin gives the addresses, and other
    options come before what it says.

    \b
    Examples:
      cni-ovs attach web eth1 br0 --ip 10.1.0.2/24
      cni-ovs attach web eth1 br0 --vlan 7 --ip 10.7.0.2/24 --gateway 10.7.0.1
      cni-ovs attach kube-system/dns net1 --from storage
    """
    config = _config(bridge, given)
    source = ctx.get_parameter_source("db")
    if source is not ParameterSource.DEFAULT or lookup(config, "socket_file") is None:
        config["socket_file"] = given["db"]
    ips, routes = _addresses(given["ips"], given["gateways"])
    container = targets.find(target)
    _refuse_second_default(container, routes)
    try:
        attached = attaching.attach(container, ifname, Record(config, ips, routes, cni_path=given["cni_path"]))
    except CniError as error:
        if error.code == BRIDGE_NOT_FOUND and database.read(str(config["socket_file"])).bridge(ifname):
            raise Failure(error.msg, f"{ifname!r} is one: the order is TARGET IFNAME BRIDGE") from error
        raise
    if given["as_json"]:
        print_json(attached.result)
        return
    undo = f"cni-ovs detach {target} {ifname}" + (
        f" --db {given['db']}" if source is ParameterSource.COMMANDLINE else ""
    )
    say(plain(f"attached {ifname} of {target} to bridge {attached.bridge}"))
    for line in (*_described(attached.result), f"to undo: {undo}"):
        say(plain(f"  {line}"))


def _config(bridge: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The network configuration that the options make, perhaps out of one in a file."""
    if given["source"] is None:
        if bridge is None:
            raise click.UsageError("Missing argument 'BRIDGE': it can be left out with --from only.")
        config: dict[str, Any] = {"cniVersion": "1.1.0", "name": attaching.NETWORK, "type": "ovs"}
    else:
        config = _read(given["source"])
    trunk = None if given["trunk"] is None else _trunk(given["trunk"])
    wanted = {"bridge": bridge, "interface_type": given["kind"], "trunk": trunk}
    wanted |= {key: given[key] for key in ("vlan", "mtu")}
    config |= {key: value for key, value in wanted.items() if value is not None}
    return config if given["mac"] is None else recorded.added(config, "runtimeConfig", {"mac": given["mac"]})


def _read(conf: str) -> dict[str, Any]:
    """The configuration of the plugin `ovs` that is meant."""
    configuration = configurations.meant(conf)
    ours = configuration.ours()
    if len(ours) > 1:
        raise Failure(f"{configuration.source.name} has {len(ours)} plugins of type 'ovs'", "give one of them alone")
    others = [str(lookup(plugin, "type")) for _, plugin in configuration.plugins if lookup(plugin, "type") != "ovs"]
    if others:
        what = f"of the chain in {configuration.source.name} only 'ovs' is run, not {', '.join(others)}"
        click.echo(f"cni-ovs: warning: {what}", err=True)
    return ours[0]


def _trunk(text: str) -> list[dict[str, int]]:
    """`10,20-29` in the form of the key `trunk`, which the plugin then checks."""
    found = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = (first, last) if dash else (first, first)
        if not all(number.isascii() and number.isdecimal() and len(number) <= 4 for number in numbers):
            numbers = ("1", "0")  # what is none is as wrong as what is the wrong way round
        lowest, highest = map(int, numbers)
        if not lowest <= highest <= HIGHEST:
            what = f"{text!r} must be VLANs from 0 to {HIGHEST}, such as 10,20-29"
            raise click.BadParameter(what, param_hint="--trunk")
        found.append({"minID": lowest, "maxID": highest} if dash else {"id": lowest})
    return found


def _addresses(ips: tuple[str, ...], gateways: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Addresses and default routes in the form of a CNI result."""
    found: list[dict[str, Any]] = []
    interfaces = []
    for text in ips:
        try:
            if "/" not in text:
                raise ValueError("it has no prefix length, as in 10.1.0.2/24")
            if "%" in text:
                raise ValueError("it needs no zone: the interface is IFNAME")
            interfaces.append(ipaddress.ip_interface(text))
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}", param_hint="--ip") from error
        found.append({"address": text})
    routes: dict[int, dict[str, Any]] = {}
    for text in gateways:
        try:
            gateway = ipaddress.ip_address(text.partition("%")[0])
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--gateway") from error
        if gateway.version in routes:
            raise click.BadParameter(f"{text}: there can be one for each of IPv4 and IPv6", param_hint="--gateway")
        alike = [interface for interface in interfaces if interface.version == gateway.version]
        # A router's link-local address can be reached from any IPv6 address on the link.
        if not any(gateway in interface.network or gateway.is_link_local for interface in alike):
            raise click.BadParameter(
                f"{text} is in the network of no --ip, so it cannot be reached", param_hint="--gateway"
            )
        routes[gateway.version] = {"dst": _EVERYWHERE[gateway.version], "gw": str(gateway)}
    return found, list(routes.values())


def _refuse_second_default(container: targets.Target, routes: list[dict[str, Any]]) -> None:
    """Refuse a default route that the kernel would not take, because there is one: the plugin would let that pass."""
    there = kernel.default_routes(container.netns)
    for route in routes:
        found = there.get(ipaddress.ip_network(route["dst"]).version)
        if found is not None:
            what = f"{container.name} has a default route already: {found}"
            raise Failure(what, f"leave out --gateway {route['gw']}, or remove that route first")


def _described(result: dict[str, Any]) -> list[str]:
    """A CNI result for people."""
    parsed = parse(result)  # of any version
    inner = [interface for interface in parsed.interfaces if interface.get("sandbox")][-1:]
    known = [f"{key.upper()} {interface[key]}" for interface in inner for key in ("mac", "mtu") if key in interface]
    lines = [", ".join(known)] if known else []
    addresses = [ip["address"] for ip in parsed.ips]
    lines.append(f"addresses {', '.join(addresses)}" if addresses else "no addresses: none were asked for")
    lines += [f"route {route['dst']}" + (f" via {route['gw']}" if "gw" in route else "") for route in parsed.routes]
    return lines
