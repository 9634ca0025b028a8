"""Messages of rtnetlink: decoded by pyroute2, and as the command of ip(8) or tc(8) that sends the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pyroute2.netlink.rtnl import RTM_VALUES, rt_scope
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from cni_ovs.plugin.netlink import attributes

Decoded = dict[str, Any]

_HEADER = struct.Struct("=IHHII")
_TCMSG_SIZE = 20
_GET = 2  # of the four kinds of message for each thing: new, del, get, set
_UP, _PROMISC = 0x1, 0x100
_IGNORED = ("attrs", "header", "event", "__align", "pad1", "pad2", "ifi_type", "state")
_INET = 2
_INGRESS = 0xFFFFFFF1
_MAIN_TABLE, _UNIVERSE = 254, 0
_TCA_OPTIONS, _TCA_TBF_RATE64, _TCA_TBF_BURST = 2, 4, 6
_ADDR_GEN_MODES = {0: "eui64", 1: "none", 2: "stable_secret", 3: "random"}


def is_change(kind: int) -> bool:
    """Whether a message of this kind changes something."""
    return kind & 3 != _GET


def decode(kind: int, flags: int, payload: bytes) -> Decoded:
    """The header of a message and its attributes, nested ones too, by their names in the kernel.

    Args:
        kind: RTM_….
        flags: NLM_F_….
        payload: what follows the netlink header.
    """
    message = MarshalRtnl.msg_map[kind](_HEADER.pack(_HEADER.size + len(payload), kind, flags, 1, 0) + payload)
    message.decode()
    found = _plain(message)
    if found.get("TCA_KIND") == "tbf":  # two attributes that pyroute2 does not know
        options = dict(attributes(dict(attributes(payload[_TCMSG_SIZE:]))[_TCA_OPTIONS]))
        found["TCA_OPTIONS"].pop("UNKNOWN", None)
        (found["TCA_OPTIONS"]["TCA_TBF_RATE64"],) = struct.unpack("=Q", options[_TCA_TBF_RATE64])
        (found["TCA_OPTIONS"]["TCA_TBF_BURST"],) = struct.unpack("=I", options[_TCA_TBF_BURST])
    assert isinstance(found, dict)
    return found


def name_of(kind: int) -> str:
    """RTM_NEWLINK and so on."""
    return str(RTM_VALUES.get(kind, kind))


def _plain(value: Any) -> Any:
    """A value of pyroute2 as one of JSON."""
    if isinstance(value, dict):
        own = {key: _plain(item) for key, item in value.items() if key not in _IGNORED}
        return own | {name: _plain(item) for name, item in value.get("attrs", ())}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def with_names(message: Decoded, interface: Callable[[int], str], namespace: Callable[[int], str]) -> Decoded:
    """The same with names in place of what means something in one process or for a moment only.

    Args:
        message: as of `decode`.
        interface: the name of the interface that has an index.
        namespace: the name of the namespace that a file descriptor is open on.
    """
    found: Decoded = {}
    for key, value in message.items():
        if key == "index":
            found |= {"interface": interface(value)} if value else {}
        elif key in ("RTA_OIF", "oif", "ifindex"):
            found[key] = interface(value)
        elif key == "IFLA_NET_NS_FD":
            found[key] = namespace(value)
        elif isinstance(value, dict):
            found[key] = with_names(value, interface, namespace)
        elif isinstance(value, list):
            found[key] = [with_names(item, interface, namespace) if isinstance(item, dict) else item for item in value]
        else:
            found[key] = value
    return found


def text(kind: str, message: Decoded) -> str:
    """The command that sends such a message.

    Args:
        kind: as of `name_of`.
        message: as of `with_names`.
    """
    write = _WRITERS.get(kind)
    return " ".join(write(message)) if write else f"{kind} {message}"


def _device(message: Decoded) -> str:
    return str(message.get("interface") or message.get("IFLA_IFNAME"))


def _flags(message: Decoded) -> list[str]:
    words = []
    if message["change"] & _UP:
        words.append("up" if message["flags"] & _UP else "down")
    if message["change"] & _PROMISC:
        words += ["promisc", "on" if message["flags"] & _PROMISC else "off"]
    return words


def _settings(message: Decoded) -> list[str]:
    words = []
    for key, word in (("IFLA_NET_NS_FD", "netns"), ("IFLA_MTU", "mtu"), ("IFLA_ADDRESS", "address")):
        if key in message:
            words += [word, str(message[key])]
    return words


def _new_link(message: Decoded) -> list[str]:
    info = message["IFLA_LINKINFO"]
    words = [
        "ip link add",
        message["IFLA_IFNAME"],
        *_flags(message),
        *_settings(message),
        "type",
        info["IFLA_INFO_KIND"],
    ]
    peer = info.get("IFLA_INFO_DATA", {}).get("VETH_INFO_PEER")
    return words + (["peer name", peer["IFLA_IFNAME"], *_settings(peer)] if peer else [])


def _set_link(message: Decoded) -> list[str]:
    words = ["ip link set", _device(message), *_flags(message), *_settings(message)]
    if "interface" in message and "IFLA_IFNAME" in message:
        words += ["name", message["IFLA_IFNAME"]]
    mode = message.get("IFLA_AF_SPEC", {}).get("AF_INET6", {}).get("IFLA_INET6_ADDR_GEN_MODE")
    return words + ([] if mode is None else ["addrgenmode", _ADDR_GEN_MODES.get(mode, str(mode))])


def _del_link(message: Decoded) -> list[str]:
    return ["ip link delete", _device(message)]


def _new_property(message: Decoded) -> list[str]:
    return ["ip link property add dev", _device(message), "altname", message["IFLA_PROP_LIST"]["IFLA_ALT_IFNAME"]]


def _new_address(message: Decoded) -> list[str]:
    words = ["ip address add", f"{message['IFA_ADDRESS']}/{message['prefixlen']}"]
    if "IFA_BROADCAST" in message:
        words += ["broadcast", message["IFA_BROADCAST"]]
    return [*words, "dev", message["interface"]]


def _new_route(message: Decoded) -> list[str]:
    words = ["ip" if message["family"] == _INET else "ip -6", "route add"]
    words.append(f"{message['RTA_DST']}/{message['dst_len']}" if "RTA_DST" in message else "default")
    if "RTA_GATEWAY" in message:
        words += ["via", message["RTA_GATEWAY"]]
    if "RTA_OIF" in message:
        words += ["dev", message["RTA_OIF"]]
    if message["RTA_TABLE"] != _MAIN_TABLE:
        words += ["table", str(message["RTA_TABLE"])]
    if message["scope"] != _UNIVERSE:
        words += ["scope", str(rt_scope.get(message["scope"], message["scope"]))]
    if "RTA_PRIORITY" in message:
        words += ["metric", str(message["RTA_PRIORITY"])]
    metrics = message.get("RTA_METRICS", {})
    for key, word in (("RTAX_MTU", "mtu"), ("RTAX_ADVMSS", "advmss")):
        if key in metrics:
            words += [word, str(metrics[key])]
    for hop in message.get("RTA_MULTIPATH", ()):
        words += ["nexthop via", hop["RTA_GATEWAY"], "dev", hop["oif"]]
    return words


def _new_qdisc(message: Decoded) -> list[str]:
    words = ["tc qdisc add dev", message["interface"]]
    if message["parent"] == _INGRESS:
        return [*words, "ingress"]
    words += ["root", message["TCA_KIND"]]
    options = message.get("TCA_OPTIONS", {})
    if message["TCA_KIND"] == "tbf":
        words += ["rate", f"{options['TCA_TBF_RATE64'] * 8}bit", "burst", f"{options['TCA_TBF_BURST']}b"]
        words += ["limit", f"{options['TCA_TBF_PARMS']['limit']}b"]
    return words


def _new_filter(message: Decoded) -> list[str]:
    words = ["tc filter add dev", message["interface"], "ingress", message["TCA_KIND"], "match u32 0 0"]
    [action] = message["TCA_OPTIONS"]["TCA_U32_ACT"].values()
    to = action["TCA_ACT_OPTIONS"]["TCA_MIRRED_PARMS"]["ifindex"]
    return [*words, "action", action["TCA_ACT_KIND"], "egress redirect dev", to]


_WRITERS: dict[str, Callable[[Decoded], list[str]]] = {
    "RTM_NEWLINK": _new_link,
    "RTM_SETLINK": _set_link,
    "RTM_DELLINK": _del_link,
    "RTM_NEWLINKPROP": _new_property,
    "RTM_NEWADDR": _new_address,
    "RTM_NEWROUTE": _new_route,
    "RTM_NEWQDISC": _new_qdisc,
    "RTM_NEWTFILTER": _new_filter,
}
