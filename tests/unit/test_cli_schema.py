"""The JSON Schema says what the plugin does: it accepts a configuration if, and only if, ADD does.

The library jsonschema is the witness. What a schema cannot say is left out, and only that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cni_ovs.cli.configurations import keys, schema
from cni_ovs.plugin import config as network_config
from cni_ovs.plugin.config import INSIDE, KEYS, MIRRORS
from cni_ovs.plugin.errors import CniError
from tests.unit.test_configuration import REFUSED, VALID, keys_of
from tests.unit.test_vlans import ONE, TWO
from tests.unit.tools import Json

REPOSITORY = Path(__file__).parents[2]
PUBLISHED = REPOSITORY / "docs/network-configuration.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(schema.of_plugin())
LIST_VALIDATOR = jsonschema.Draft202012Validator(schema.of_list())
TYPES = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
    "list": "array",
}


def accepts(values: Json) -> bool:
    try:
        network_config.parse(values, json.dumps(values).encode(), "")
    except CniError:
        return False
    return True


# What generated configurations are made of

MAC = "02:00:00:00:00:0a"
DEVICE = "0000:03:00.5"
junk = st.sampled_from(
    [None, True, False, 0, 1, -1, 5.5, 4095, 70000, "", "x", "/", "/x", [], {}, [1], {"a": 1}, "a\nb"]
)
bandwidths = st.dictionaries(
    st.sampled_from(["ingressRate", "ingressBurst", "egressRate", "egressBurst", "shapedSubnets", "burst"]),
    st.sampled_from([None, 0, 1, 999, 1000, 10**15, 10**15 + 1, -1, True, "x", [1]]),
    max_size=3,
)
ids = st.lists(
    st.dictionaries(
        st.sampled_from(["id", "minID", "maxID", "x"]), st.sampled_from([None, 0, 5, 4094, 4095, "5", True]), max_size=3
    )
    | junk,
    max_size=2,
)
mirrors = st.lists(
    st.dictionaries(
        st.sampled_from(["name", "ingress", "egress", "output_vlan", "x"]),
        st.sampled_from([None, True, False, "m", "", 1, 4094, 4095, 0]),
        max_size=4,
    )
    | junk,
    max_size=2,
)
RIGHT: dict[str, list[Any]] = {
    "bridge": ["b", "b" * 255],
    "deviceID": [DEVICE, "", "0000:AF:1f.7"],
    "sharedDir": ["", "/x", "/" + "s" * 90 + "///"],
    "vlan": [0, 5, 4094],
    "vlan_mode": ["", "access", "trunk", "native-tagged", "native-untagged", "dot1q-tunnel"],
    "trunk": [ONE, TWO, []],
    "cvlans": [ONE, TWO, []],
    "macspoofchk": [True, False],
    "ipspoofchk": [True, False],
    "ipam": [{"type": "dhcp"}, {"type": "static"}, {}],
    "prevResult": [{}],
    "bandwidth": [{}, "", {"ingressRate": 1000}, {"egressRate": 5000, "egressBurst": 7}, {"ingressRate": 0}],
    "capabilities": [{}, 5],
    "runtimeConfig": [
        {"mac": MAC},
        {"mac": ""},
        [],
        5,
        {"CNIDeviceInfoFile": "/x"},
        {"bandwidth": {"egressRate": 5000}},
    ],
    "args": [{"cni": {"mac": MAC}}, {"cni": {"ovnPort": "p"}}, {"cni": {"ovnPort": ""}}, {"cni": 5}],
    "mirrors": [[{"name": "m", "ingress": True}], [{"name": "m"}], [{"name": "m", "egress": True, "output_vlan": 5}]],
}
WRONG: dict[str, list[Any]] = {
    "deviceID": ["03:00.5", DEVICE + "\n"],
    "sharedDir": ["/" + "s" * 91, "//", "x", 5],
    "macspoofchk": ["true", 1],
    "ipspoofchk": ["true", 1],
    "runtimeConfig": [{"mac": mac} for mac in ("01:00:00:00:00:01", "00-00-00-00-00-00", f"{MAC}\n", 5)]
    + [{"CNIDeviceInfoFile": "x"}],
    "args": [{"cni": {"mac": 5}}, {"cni": {"ovnPort": "a\nb"}}],
}
for _found, _entries in (
    (RIGHT, [entry[0] for entry in VALID]),
    (WRONG, [keys_of(name, value) for name, _, values in REFUSED for value in values]),
):
    for _entry in _entries:
        for _key, _value in _entry.items():
            _found.setdefault(_key, []).append(_value)
made = {"bandwidth": bandwidths, "trunk": ids, "cvlans": ids, "mirrors": mirrors}
known = {
    # Mostly right: of several mistakes only one would be seen.
    key: st.integers(0, 19).flatmap(
        lambda number, key=key: (
            st.sampled_from(RIGHT.get(key, [None]))  # type: ignore[misc] # defaults bind
            if number > 2
            else (st.sampled_from(WRONG.get(key, [5])), junk, made.get(key, st.none()))[number]
        )
    )
    for key in (*KEYS, "mirrors")
    if key not in ("name", "type", "cniVersion")
}
unknown = st.sampled_from(["vlna", "VLAN2", "macSpoof", "cni.dev/spoof", "plugins", "Plugins", "note"])
configurations = st.builds(
    lambda kind, chosen, more, bridge: {"name": "n", "cniVersion": "1.0.0", "type": kind, **bridge, **chosen, **more},
    st.sampled_from(["ovs", "ovs", "ovs", *MIRRORS]),
    st.lists(st.sampled_from(sorted(known)), max_size=4).flatmap(
        lambda names: st.fixed_dictionaries({name: known[name] for name in names})
    ),
    st.integers(0, 9).flatmap(
        lambda number: st.just({}) if number else st.dictionaries(unknown, st.just(5), max_size=1)
    ),
    st.sampled_from([{"bridge": "b"}, {"bridge": "b"}, {"bridge": "b"}, {}]),
)


# What a schema cannot say


def inner(value: Any) -> Iterator[Any]:
    yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inner(part)


def strings(values: Json) -> list[str]:
    return [part for part in inner(values) if isinstance(part, str)]


def has_wrong_order(values: Json) -> bool:
    pairs = [
        (part.get("minID"), part.get("maxID"))
        for part in inner([values.get("trunk"), values.get("cvlans")])
        if isinstance(part, dict)
    ]
    return any(type(low) is type(high) is int and low > high for low, high in pairs)


def names_twice(values: Json) -> bool:
    names = [item.get("name") for item in inner(values.get("mirrors")) if isinstance(item, dict)]
    return len(set(map(str, names))) < len(names)


def obj(values: Json, key: str) -> Json:
    """The object that is a value; an empty one if it is something else."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def is_empty_for_zero(values: Json) -> bool:
    parts = [*obj(values, "bandwidth").values(), *obj(obj(values, "runtimeConfig"), "bandwidth").values()]
    return any(part in ("", [], {}) or part is False for part in parts)


def is_second(values: Json) -> bool:
    runtime, cni = obj(values, "runtimeConfig"), obj(obj(values, "args"), "cni")
    return bool(runtime.get("mac") and cni.get("mac")) or bool(runtime.get("bandwidth") and values.get("bandwidth"))


LOWER = {key.lower() for key in KEYS}
UNSAID: dict[str, Callable[[Json], bool]] = {
    "case": lambda values: any(key not in KEYS and key.lower() in LOWER for key in values),
    "fraction": lambda values: any(isinstance(part, float) and part.is_integer() for part in inner(values)),
    "order": has_wrong_order,
    "twice": names_twice,
    "bytes": lambda values: any(not str(values.get(key)).isascii() for key in ("socket_file", "sharedDir")),
    "printable": lambda values: any(not text.isascii() and not text.isprintable() for text in strings(values)),
    "address": lambda values: "[" in str(values.get("socket_file")),
    "empty": is_empty_for_zero,
    "first": is_second,
    "files": lambda values: any(str(values.get(key)).startswith("/") for key in ("log_file", "configuration_path")),
    "type": lambda values: values.get("type") not in ("ovs", *MIRRORS),
}


def test_what_is_not_said_is_documented_and_no_more() -> None:
    assert UNSAID.keys() == schema.NOT_SAID.keys()
    page = (REPOSITORY / "docs/command.md").read_text()
    assert [text for text in schema.NOT_SAID.values() if f"- {text}" not in page.replace("\n  ", " ")] == []


def agree(values: Json) -> None:
    said = [error.message for error in VALIDATOR.iter_errors(values)]
    assert accepts(values) == (not said), said


@given(configurations)
@example({"name": "n", "type": "ovs", "bridge": "b", "socket_file": "tcp:1.2.3.4:00080"})
@example({"name": "n", "type": "ovs", "bridge": "b", "trunk": [{"id": 5, "minID": 5}]})
@example({"name": "n", "type": "ovs", "bridge": "b", "deviceID": DEVICE, "bandwidth": {"ingressRate": 5000}})
@example({"name": "n", "type": "ovs-mirror-consumer", "deviceID": DEVICE, "mirrors": [{"name": "m"}]})
@example({"name": "n", "type": "ovs", "bridge": "b", "ipspoofchk": True, "ipam": {"type": ""}})
@example({"name": "n", "type": "ovs", "bridge": "b", "vlan_mode": "dot1q-tunnel", "vlan": None})
def test_the_schema_accepts_what_the_plugin_accepts(values: Json) -> None:
    assume(not any(applies(values) for applies in UNSAID.values()))
    agree(values)


@pytest.mark.parametrize("keys", [entry[0] for entry in VALID if not any("cni.dev" in key for key in entry[0])])
def test_so_it_does_with_every_value_that_is_right_by_itself(keys: Json) -> None:
    values = {"name": "n", "cniVersion": "1.0.0", "type": "ovs", "bridge": "b", **keys}
    if not any(applies(values) for applies in UNSAID.values()):
        agree(values)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, _, found in REFUSED for value in found])
def test_and_with_every_value_that_is_wrong(name: str, value: Any) -> None:
    values = {"name": "n", "cniVersion": "1.0.0", "type": "ovs", "bridge": "b", **keys_of(name, value)}
    if not any(applies(values) for applies in UNSAID.values()):
        agree(values)


# What each unsaid thing is: the schema says one thing, and the plugin the other.
@pytest.mark.parametrize(
    ("what", "keys", "accepted"),
    [
        ("case", {"VLAN": 5000}, False),
        ("fraction", {"mtu": 1500.0}, False),
        ("order", {"trunk": [{"minID": 5, "maxID": 4}]}, False),
        ("twice", {"type": "ovs-mirror-consumer", "mirrors": [{"name": "m"}, {"name": "m"}]}, False),
        ("bytes", {"socket_file": "/" + "ä" * 54}, False),
        ("printable", {"bridge": "a\u200bb"}, False),
        ("address", {"socket_file": "tcp:[1:2]:6640"}, False),
        ("empty", {"bandwidth": {"ingressRate": False}}, True),
        ("first", {"runtimeConfig": {"mac": MAC}, "args": {"cni": {"mac": "x"}}}, True),
        ("files", {"log_file": "/no/such/folder/log"}, False),
        ("type", {"type": "else"}, True),
    ],
)
def test_what_is_not_said_could_not_be_said_or_need_not(what: str, keys: Json, accepted: bool) -> None:
    values = {"name": "n", "cniVersion": "1.0.0", "type": "ovs", "bridge": "b", **keys}
    assert UNSAID[what](values)
    assert accepts(values) is accepted
    assert VALIDATOR.is_valid(values) is not accepted


# The table of keys


def test_every_form_has_a_schema_and_no_other_is_there() -> None:
    named = {form for form in (*KEYS.values(), *INSIDE.values(), *MIRRORS.values()) if isinstance(form, str)}
    assert schema.FORMS.keys() == named


def test_every_key_is_described_and_no_other() -> None:
    assert [key.name for key in (*keys.KEYS, *keys.SPECIFICATION)] == sorted(
        KEYS, key=[key.name for key in (*keys.KEYS, *keys.SPECIFICATION)].index
    )
    properties = schema.of_plugin()["properties"]
    assert properties.keys() == {*KEYS, "mirrors", "plugins"}
    assert all(found["description"] for found in properties.values())


def test_so_is_every_key_inside_of_others() -> None:
    assert set(keys.INSIDE) == set(INSIDE)
    assert schema.of_plugin()["properties"]["trunk"]["items"]["properties"]["minID"]["description"]


def test_the_readme_has_the_same_table() -> None:
    text = (REPOSITORY / "README.md").read_text()
    table = text[text.index("| `cniVersion` ") : text.index("\n\nA key that nobody knows")].splitlines()
    assert table == [key.row for key in keys.KEYS]


@pytest.mark.parametrize("key", [key for key in keys.KEYS if key.name != "sharedDir"], ids=lambda key: key.name)
def test_the_type_in_the_table_is_that_of_the_schema(key: keys.Key) -> None:
    found = schema.of_plugin()["properties"][key.name]
    types = found.get("type") or {type(value) for value in found["enum"] if value is not None}
    expected = TYPES[key.type]
    assert expected in types or types == {str} == {str if expected == "string" else None}, found


def test_the_defaults_in_the_table_are_those_of_the_plugin() -> None:
    least = network_config.parse({"name": "n", "bridge": "b"}, b"", "")
    for key in keys.KEYS:
        default = schema.of_plugin()["properties"][key.name].get("default")
        shown = key.default.strip("`")
        if default is None:
            assert shown in ("none", "required", "follows", "all", "the kernel's", "IPAM's")
        else:
            assert shown == (
                json.dumps(default)
                if isinstance(default, bool)
                else f"{default:g}"
                if isinstance(default, float)
                else default
            )
            assert key.name in ("log_level", "cniVersion") or getattr(least, key.name) == default


# The schema itself


@pytest.mark.parametrize("whole", [schema.of_plugin(), schema.of_list()], ids=["plugin", "list"])
def test_it_is_a_schema_and_its_patterns_are_those_of_ecma_262_too(whole: Json) -> None:
    jsonschema.Draft202012Validator.check_schema(whole)
    patterns = [
        part["pattern"] for part in inner(whole) if isinstance(part, dict) and isinstance(part.get("pattern"), str)
    ]
    assert patterns
    for pattern in patterns:
        assert not re.search(r"\(\?P|\(\?<|\\A|\\Z|\\z|\(\?[aiLmsux]|\\d", pattern), pattern
    assert math.isfinite(len(json.dumps(whole)))


def test_the_published_one_is_the_same() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema.of_plugin()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").glob("*.conflist")), ids=lambda path: path.name)
def test_the_examples_are_lists_that_it_accepts(path: Path) -> None:
    values = json.loads(path.read_text())
    assert not list(LIST_VALIDATOR.iter_errors(values))
    for plugin in values["plugins"]:
        if plugin["type"] in ("ovs", *MIRRORS):
            assert not list(VALIDATOR.iter_errors({"name": "n", **plugin}))


@pytest.mark.parametrize(
    "change",
    [
        {"plugins": []},
        {"plugins": [{}]},
        {"name": None},
        {"plugins": [{"type": "ovs"}]},
        {"plugins": [{"type": "ovs", "bridge": "b", "vlan": 5000}]},
        {"plugins": [{"type": "ovs-mirror-producer", "bridge": "b"}]},
    ],
)
def test_a_wrong_list_is_refused(change: Json) -> None:
    right = {
        "cniVersion": "1.0.0",
        "name": "n",
        "plugins": [{"type": "ovs", "bridge": "b"}, {"type": "bridge", "vlan": "x"}],
    }
    assert LIST_VALIDATOR.is_valid(right)
    assert not LIST_VALIDATOR.is_valid({**right, **change})
