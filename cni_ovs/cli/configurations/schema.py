r"""The network configuration as a JSON Schema (draft 2020-12), for editors and for those who check what they apply.

Which keys there are and which form each has is from plugin/config.py, and what they mean from keys.py. Here is what a
form is in the words of JSON Schema, and which keys go together. A test compares it with what the plugin accepts.

Patterns are such as ECMA-262 and Python understand alike: `(?![\s\S])` is the end, because Python's `$` is also
before a final line feed.
"""

from __future__ import annotations

from typing import Any

from cni_ovs.plugin import bandwidth, forms, log, vlans
from cni_ovs.plugin.attachment import RECORDED_IDS
from cni_ovs.plugin.config import DEFAULT_SOCKET, DEFAULT_TIMEOUT, INSIDE, KEYS, MIRRORS
from cni_ovs.plugin.devices import vhost_user
from cni_ovs.plugin.protocol import SUPPORTED_VERSIONS

from . import keys

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What the plugin refuses, or accepts, and a schema cannot say. docs/command.md lists them; the test that compares both
# leaves out just these.
NOT_SAID = {
    "case": "the plugin finds a key in any case (`VLAN`); the schema knows only the case of the table",
    "fraction": "JSON Schema takes 1500.0 for an integer, the plugin does not",
    "order": "`minID` must not be above `maxID`",
    "twice": "a plugin must not name a mirror twice",
    "bytes": "the path of a socket is limited in bytes, which are more than its characters if these are not ASCII",
    "printable": "characters that are invisible or nobody has defined are refused, not only control characters",
    "address": "an IPv6 address in `socket_file` must be one",
    "empty": "in `bandwidth`, the plugin takes any empty value for 0",
    "first": "of `runtimeConfig` and `args`, and of `bandwidth`, the plugin looks only at the first that is not empty",
    "files": "`log_file` and `configuration_path` must be usable on the node, and the latter may have what is missing",
    "type": "the plugin does not look at `type`: the runtime has chosen it by that",
}

_END = r"(?![\s\S])"
_CLEAN = r"^(?![\s\S]*[\u0000-\u001f\u007f-\u009f])"
_NO_SLASH = r"^(?![\s\S]*[\u0000-\u001f\u007f-\u009f/])"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}".replace(r"\d", "[0-9]")
_PORT = r"(?!0+(?![0-9]))(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_TCP = rf"tcp:(?:localhost|{_IPV4}|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]):{_PORT}"
_UNIX = rf"(?!tcp:)(?:unix:)?/[\s\S]{{0,{forms.UNIX_PATH_BYTES - 1}}}"
_MAC = r"(?!00(?:[:-]00){5})[0-9A-Fa-f][02468ACEace](?:[:-][0-9A-Fa-f]{2}){5}"
_PCI = r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]"


def _text(pattern: str, **more: Any) -> Schema:
    return {"type": "string", "pattern": pattern, **more}


def _integer(lowest: int, highest: int, zero_is_none: bool = False) -> Schema:
    limits = {"type": "integer", "minimum": lowest, "maximum": highest}
    return {"type": "integer", "anyOf": [{"const": 0}, limits]} if zero_is_none else limits


def _nullable(schema: Schema) -> Schema:
    """The same, or null, which is a key that is absent."""
    if not schema:
        return schema
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    changed = {**schema, "type": [*([schema["type"]] if isinstance(schema["type"], str) else schema["type"]), "null"]}
    if "anyOf" in changed:
        changed["anyOf"] = [*changed["anyOf"], {"type": "null"}]
    return changed


def given(key: str, schema: Schema | None = None) -> Schema:
    """That a key is there, and not null; with a value of this schema."""
    return {"required": [key], "properties": {key: schema or {"not": {"type": "null"}}}}


def absent(key: str) -> Schema:
    """That a key is not there, or null."""
    return {"properties": {key: {"type": "null"}}}


_FILLED = {"type": "string", "minLength": 1}
_VLAN = _nullable(_integer(0, vlans.HIGHEST))
_RATE = {
    "type": ["integer", "null"],
    "anyOf": [{"enum": [0, None]}, {"minimum": bandwidth.LOWEST, "maximum": bandwidth.HIGHEST}],
}
_BURST = {"type": ["integer", "null"], "minimum": 0}
_LIMITING = {"anyOf": [given(f"{way}Rate", {"type": "integer", "minimum": 1}) for way in ("ingress", "egress")]}


def _mirrors(role: Schema) -> Schema:
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": _text(_CLEAN, minLength=1),
            "ingress": {"type": "boolean", "description": "copy what comes from the container"},
            "egress": {"type": "boolean", "description": "copy what goes to it"},
            "output_vlan": {**_nullable(_integer(1, 4094)), "description": "the VLAN for copies: there is no consumer"},
        },
    }
    return {"type": "array", "minItems": 1, "items": {**item, **role}}


# Of each form of config.KEYS, INSIDE and MIRRORS.
FORMS: dict[str, Schema] = {
    "anything": {},
    "mapping": {"type": "object"},
    "boolean": {"type": "boolean"},
    "text": _text(_CLEAN),
    "bridge": _text(_NO_SLASH, minLength=1, maxLength=255),
    "interface_type": {"enum": list(forms.INTERFACE_TYPES)},
    "devices.vhost_user.socket_folder": _text(
        rf"{_CLEAN}(?:{_END}|(?!/+{_END})/[\s\S]{{0,{vhost_user.LONGEST_FOLDER - 1}}}/*{_END})"
    ),
    "vlans.parse_ids": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "id": {**_VLAN, "description": "one VLAN"},
                "minID": {**_VLAN, "description": "the first VLAN of a range"},
                "maxID": {**_VLAN, "description": "the last VLAN of it"},
            },
            "anyOf": [given("id"), given("minID")],
            "if": {"anyOf": [given("minID"), given("maxID")]},
            "then": {"allOf": [given("minID"), given("maxID")]},
        },
    },
    "vlans.parse_mode": {"enum": [*vlans.KEYS, ""]},
    "pci_address": _text(rf"^(?:{_PCI})?{_END}"),
    "external_ids": {
        "type": "object",
        "propertyNames": {"pattern": r"^[^\u0000]*$", "not": {"enum": list(RECORDED_IDS)}},
        "additionalProperties": _text(rf"^[^\u0000]*{_END}"),
    },
    "bandwidth.read": {
        "type": "object",
        "properties": {
            "ingressRate": {**_RATE, "description": "what it may receive, in bits per second; 0: as much as it can"},
            "ingressBurst": {**_BURST, "description": "how many bits may come at once after a pause"},
            "egressRate": {**_RATE, "description": "what it may send, in bits per second; 0: as much as it can"},
            "egressBurst": {**_BURST, "description": "how many bits may be sent at once after a pause"},
            "shapedSubnets": {"maxItems": 0, "type": ["array", "null"]},
            "unshapedSubnets": {"maxItems": 0, "type": ["array", "null"]},
        },
        "additionalProperties": False,
        "allOf": [
            {
                "if": given(f"{way}Burst", {"type": "integer", "minimum": 1}),
                "then": given(f"{way}Rate", {"type": "integer", "minimum": 1}),
            }
            for way in ("ingress", "egress")
        ],
    },
    "socket_file": _text(rf"{_CLEAN}(?:{_UNIX}|{_TCP}){_END}"),
    "flat_file": _text(rf"{_CLEAN}(?:{_END}|/)"),
    "log_file": _text(rf"{_CLEAN}/"),
    "log_level": {"enum": list(log.LEVELS)},
    "timeout": {"type": "number", "minimum": 1, "maximum": forms.LONGEST_TIMEOUT},
    "ipam_type": _text(rf"{_NO_SLASH}(?!\.\.?{_END})"),
    "mac": _text(rf"^(?:{_MAC})?{_END}"),
    "mirrors.of_producer": _mirrors(
        {"anyOf": [given(way, {"const": True}) for way in ("ingress", "egress")]},
    ),
    "mirrors.of_consumer": _mirrors(absent("output_vlan")),
}
# What protocol.py looks at, and the runtime.
_LOOKED_AT: dict[str, Schema] = {
    "cniVersion": {"enum": [*SUPPORTED_VERSIONS, ""]},
    "name": {"type": "string", "pattern": rf"^[A-Za-z0-9][A-Za-z0-9_.-]*{_END}"},
    "type": {"enum": ["ovs", *MIRRORS]},
}
_DEFAULTS = {
    "interface_type": "veth",
    "macspoofchk": False,
    "ipspoofchk": False,
    "socket_file": DEFAULT_SOCKET,
    "timeout": DEFAULT_TIMEOUT,
    "log_level": "info",
    "cniVersion": "0.1.0",
}


def of_form(form: str | tuple[str | int, ...]) -> Schema:
    """The schema of a form; see config.KEYS."""
    if isinstance(form, str):
        return FORMS[form]
    return _integer(*form[1:])  # type: ignore[arg-type] # a test has them all


def of_plugin() -> Schema:
    """The schema of the configuration of our plugins."""
    return {
        "$schema": DIALECT,
        "title": "Network configuration of the CNI plugin ovs",
        "description": "Of cni-ovs. The plugin takes keys in any case, and ignores unknown ones.",
        **_plugin(),
    }


def of_list() -> Schema:
    """The schema of a list of plugins (a .conflist), of which some are ours."""
    ours = {"properties": {"type": _LOOKED_AT["type"]}, "required": ["type"]}
    item = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "minLength": 1}},
        "if": ours,
        "then": {"$ref": "#/$defs/plugin"},
    }
    plugin = _plugin()
    plugin["required"] = ["type"]  # the list has the name
    return {
        "$schema": DIALECT,
        "title": "Network configuration list with the CNI plugin ovs",
        "description": "Plugins of others are not looked at.",
        "type": "object",
        "required": ["name", "plugins"],
        "properties": {
            **{key.name: _property(key) for key in keys.KEYS if key.name in ("name", "cniVersion")},
            "disableCheck": {"type": "boolean", "description": "the runtime does not call CHECK"},
            "plugins": {"type": "array", "minItems": 1, "items": item},
        },
        "$defs": {"plugin": plugin},
    }


def _plugin() -> Schema:
    properties = {key.name: _property(key) for key in (*keys.KEYS, *keys.SPECIFICATION)}
    properties["mirrors"] = {"title": "mirrors", "description": keys.MIRRORS.text}
    properties["plugins"] = {"not": {}, "description": "is a list's: `cni-ovs schema --list`"}
    for path, form in INSIDE.items():
        if path != "runtimeConfig.CNIDeviceInfoFile":  # which only some kinds of port look at
            _put(properties, path.split("."), {"description": keys.INSIDE[path], **_nullable(of_form(form))})
    return {
        "type": "object",
        "required": ["name", "type"],
        "propertyNames": {
            "anyOf": [
                {"enum": ["macspoofchk", "ipspoofchk"]},
                {"pattern": r"^cni\.dev/"},
                {"not": {"pattern": "[sS][pP][oO][oO][fF]"}},
            ]
        },
        "properties": properties,
        "allOf": _rules(),
    }


def _property(key: keys.Key) -> Schema:
    name = key.name
    schema: Schema = {"title": name, "description": key.text}
    if name in _DEFAULTS:
        schema["default"] = _DEFAULTS[name]
    if name == "sharedDir":  # only some kinds of port look at it
        return schema
    known = _LOOKED_AT.get(name) or of_form(KEYS[name])
    known = known if name in ("name", "type") else _nullable(known)
    if name == "bandwidth":
        known = {**known, "type": [*known["type"], "string"], "maxLength": 0}  # an empty string is none
    return {**schema, **known}


def _put(properties: Schema, path: list[str], schema: Schema) -> None:
    """Add the schema of a value inside others; what these are is nobody's concern."""
    first, *rest = path
    inner = properties.setdefault(first, {})
    if rest:
        _put(inner.setdefault("properties", {}), rest, schema)
    else:
        if schema.get("type") == ["object", "null"]:
            schema = {**schema, "type": ["object", "null", "string"], "maxLength": 0}  # an empty string is none
        inner.update(schema)


def _rules() -> list[Schema]:
    """Which keys go together: what config.py, vlans.py and vhost_user.py refuse."""
    device = given("deviceID", _FILLED)
    mirror = given("type", {"enum": list(MIRRORS)})
    ovn = given("args", {"type": "object", **given("cni", {"type": "object", **given("ovnPort", _FILLED)})})
    kinds = {"enum": [vhost_user.CLIENT, "dpdkvhostuser"]}
    spoofing = {"anyOf": [given(key, {"const": True}) for key in ("macspoofchk", "ipspoofchk")]}
    no_spoofing = {"properties": {key: {"enum": [False, None]} for key in ("macspoofchk", "ipspoofchk")}}
    no_limits = {"properties": {"bandwidth": {"not": _LIMITING}}}
    return [
        {
            "$comment": "bridge",
            "if": {"anyOf": [ovn, {"allOf": [device, {"not": mirror}]}]},
            "else": given("bridge", FORMS["bridge"]),
        },
        {
            "$comment": "a VF",
            "if": device,
            "then": {
                "properties": {
                    "interface_type": {"enum": ["veth", "", "system", None]},
                    "runtimeConfig": no_limits,
                    **no_limits["properties"],
                }
            },
        },
        {
            "$comment": "vhost-user ports",
            "if": given("interface_type", kinds),
            "then": {
                "properties": {
                    "sharedDir": _nullable(of_form(KEYS["sharedDir"])),
                    "ipam": {"properties": {"type": {"not": {"const": "dhcp"}}}},
                    "runtimeConfig": {"properties": {"CNIDeviceInfoFile": _nullable(FORMS["flat_file"])}},
                    **no_spoofing["properties"],
                }
            },
        },
        {"if": given("interface_type", {"const": vhost_user.CLIENT}), "then": given("sharedDir")},
        *_rules_of_vlans(),
        {
            "$comment": "anti-spoofing",
            "if": spoofing,
            "then": {"properties": {"socket_file": {"not": {"pattern": "^tcp:"}}}},
        },
        {
            "if": given("ipspoofchk", {"const": True}),
            "then": given("ipam", {"type": "object", **given("type", _FILLED)}),
        },
        *(
            {"if": given("type", {"const": name}), "then": given("mirrors", FORMS[form])}
            for name, form in MIRRORS.items()
        ),
    ]


def _rules_of_vlans() -> list[Schema]:
    none = {"maxItems": 0}
    rules: list[Schema] = [
        {"if": {"properties": {"vlan_mode": {"enum": ["", None]}}}, "then": {"properties": {"cvlans": none}}}
    ]
    for mode, fitting in vlans.KEYS.items():
        refused = {key: {"type": "null"} if key == "vlan" else none for key in ("vlan", "trunk", "cvlans")}
        then: Schema = {"properties": {key: schema for key, schema in refused.items() if key not in fitting}}
        if mode == vlans.TUNNEL:
            then = {"allOf": [then, given("vlan")]}
        rules.append({"if": given("vlan_mode", {"const": mode}), "then": then})
    return [{"$comment": "VLANs", "allOf": rules}]
