"""Results: read in the form of every version, and written in it."""

from __future__ import annotations

import copy
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from cni_ovs.plugin import jsontext
from cni_ovs.plugin.result import Result, needs_address, parse, render
from tests.unit.tools import VERSIONS, Json

LEGACY = VERSIONS[:2]
WITH_IP_VERSION = VERSIONS[2:5]
WITH_INTERFACES = VERSIONS[2:]

FULL: Json = {
    "interfaces": [
        {"name": "cni0123456789ab", "mac": "02:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/n", "socketPath": "/s", "pciID": "0"},
    ],
    "ips": [
        {"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1},
        {"address": "fd00::2/64", "gateway": "fd00::1", "interface": 1},
        {"address": "10.2.0.2/16", "interface": 0},
        {"address": "10.3.0.2/16"},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 0, "table": 100, "scope": 0},
        {"dst": "192.168.0.0/16"},
        {"dst": "::/0", "gw": "fd00::1", "priority": 7},
    ],
    "dns": {"nameservers": ["10.1.0.1"], "domain": "d", "search": ["s"], "options": ["o"]},
}


def fields(result: Result) -> Json:
    """Everything in a result."""
    return {"interfaces": result.interfaces, "ips": result.ips, "routes": result.routes, "dns": result.dns}


EMPTY: Json = {"interfaces": [], "ips": [], "routes": [], "dns": {}}

# Results of any content

addresses = st.tuples(st.ip_addresses(), st.integers(0, 128)).map(
    lambda pair: f"{pair[0]}/{min(pair[1], pair[0].max_prefixlen)}"
)


@st.composite
def ips(draw: DrawFn) -> Json:
    ip: Json = {"address": draw(addresses)}
    if draw(st.booleans()):
        ip["gateway"] = str(draw(st.ip_addresses(v=ipaddress.ip_interface(ip["address"]).version)))
    if draw(st.booleans()):
        ip["interface"] = draw(st.integers(0, 2))
    return ip


@st.composite
def routes(draw: DrawFn) -> Json:
    route: Json = {"dst": draw(addresses)}
    if draw(st.booleans()):
        route["gw"] = str(draw(st.ip_addresses(v=ipaddress.ip_interface(route["dst"]).version)))
    for key in ("mtu", "advmss", "priority", "table"):
        if draw(st.booleans()):
            route[key] = draw(st.integers(0, 2**32 - 1))
    if draw(st.booleans()):
        route["scope"] = draw(st.integers(0, 255))
    return route


interfaces = st.fixed_dictionaries(
    {"name": st.text(min_size=1, max_size=15)},
    optional={
        "mac": st.text(max_size=17),
        "sandbox": st.text(max_size=9),
        "mtu": st.integers(0, 65535),
        "socketPath": st.text(max_size=9),
        "pciID": st.text(max_size=9),
    },
)
results: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "interfaces": st.lists(interfaces, max_size=3),
        "ips": st.lists(ips(), max_size=4),
        "routes": st.lists(routes(), max_size=4),
        "dns": st.fixed_dictionaries({}, optional={"domain": st.text(max_size=5), "search": st.lists(st.text())}),
    }
)


def kept(result: Json, version: str) -> Json:
    """What of a result (0.3.0 and later) a version can say."""

    def only(entries: list[Json], *old: str) -> list[Json]:
        return [{k: v for k, v in entry.items() if version == "1.1.0" or k in old} for entry in entries]

    return {
        "interfaces": only(result["interfaces"], "name", "mac", "sandbox"),
        "ips": result["ips"],
        "routes": only(result["routes"], "dst", "gw"),
        "dns": result["dns"],
    }


@given(results, st.sampled_from(WITH_INTERFACES))
def test_what_a_version_can_say_survives_writing_and_reading(result: Json, version: str) -> None:
    before = copy.deepcopy(result)
    text = jsontext.encode(render(parse(result), version))
    assert fields(parse(json.loads(text))) == kept(result, version)
    assert result == before  # a prevResult is also given to the IPAM plugin


@given(results, st.sampled_from(LEGACY))
def test_a_legacy_result_has_the_first_address_of_each_family_and_its_routes(result: Json, version: str) -> None:
    rendered = render(parse(result), version)
    assert set(rendered) <= {"cniVersion", "ip4", "ip6", "dns"}
    again = parse(json.loads(jsontext.encode(rendered)))
    expected_ips, expected_routes = [], []
    for family in (4, 6):
        of_family = [ip for ip in result["ips"] if ipaddress.ip_interface(ip["address"]).version == family]
        if of_family:
            expected_ips.append({k: v for k, v in of_family[0].items() if k != "interface"})
            expected_routes += [
                {k: v for k, v in route.items() if k in ("dst", "gw")}
                for route in result["routes"]
                if ipaddress.ip_interface(route["dst"]).version == family
            ]
    assert fields(again) == {"interfaces": [], "ips": expected_ips, "routes": expected_routes, "dns": result["dns"]}


# Writing


def test_the_newest_form_has_everything() -> None:
    assert render(parse(FULL), "1.1.0") == {"cniVersion": "1.1.0", **FULL}


@pytest.mark.parametrize("version", WITH_INTERFACES[:-1])
def test_fields_of_the_newest_version_are_left_out_of_older_ones(version: str) -> None:
    rendered = render(parse(FULL), version)
    assert [set(entry) for entry in rendered["interfaces"]] == [{"name", "mac"}, {"name", "mac", "sandbox"}]
    assert rendered["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
        {"dst": "192.168.0.0/16"},
        {"dst": "::/0", "gw": "fd00::1"},
    ]
    assert rendered["dns"] == FULL["dns"]


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_the_family_is_written_by_the_versions_that_have_it(version: str) -> None:
    found = [ip.get("version") for ip in render(parse(FULL), version)["ips"]]
    assert found == (["4", "6", "4", "4"] if version in WITH_IP_VERSION else [None] * 4)


@pytest.mark.parametrize("version", WITH_INTERFACES)
def test_index_zero_is_an_index(version: str) -> None:
    assert [ip.get("interface") for ip in render(parse(FULL), version)["ips"]] == [1, 1, 0, None]


@pytest.mark.parametrize("version", WITH_INTERFACES)
def test_what_is_empty_is_left_out(version: str) -> None:
    assert render(Result(), version) == {"cniVersion": version}


def test_priority_and_scope_zero_are_values() -> None:
    route = render(parse(FULL), "1.1.0")["routes"][0]
    assert (route["priority"], route["scope"]) == (0, 0)


@pytest.mark.parametrize("version", LEGACY)
def test_the_legacy_form(version: str) -> None:
    assert render(parse(FULL), version) == {
        "cniVersion": version,
        "ip4": {
            "ip": "10.1.0.2/24",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "192.168.0.0/16"}],
        },
        "ip6": {"ip": "fd00::2/64", "gateway": "fd00::1", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
        "dns": FULL["dns"],
    }


def test_only_the_legacy_form_needs_an_address() -> None:
    assert [version for version in VERSIONS if needs_address(version)] == list(LEGACY)


# Reading


@pytest.mark.parametrize("values", [{}, {"cniVersion": "1.0.0"}, {"ips": None, "dns": None, "routes": []}, {"ip4": {}}])
def test_a_result_may_be_empty(values: Json) -> None:
    assert fields(parse(values)) == EMPTY


def test_the_legacy_form_is_read() -> None:
    ip4 = {"ip": "10.0.0.2/8", "gateway": "10.0.0.1"}
    result = parse({"cniVersion": "0.2.0", "ip6": {"ip": "fd00::2/64"}, "ip4": ip4})
    assert result.ips == [{"address": "10.0.0.2/8", "gateway": "10.0.0.1"}, {"address": "fd00::2/64"}]


def test_keys_are_found_whatever_their_case() -> None:
    result = parse(
        {
            "Interfaces": [{"Name": "eth0", "Mac": "02:00:00:00:00:01", "Sandbox": "/n"}],
            "IPs": [{"Address": "10.0.0.2/8", "Gateway": "10.0.0.1", "Interface": 0}],
            "Routes": [{"Dst": "0.0.0.0/0", "GW": "10.0.0.1", "MTU": 1400}],
            "DNS": {"domain": "d"},
        }
    )
    assert result.ips == [{"address": "10.0.0.2/8", "gateway": "10.0.0.1", "interface": 0}]
    assert result.routes == [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400}]
    assert result.dns == {"domain": "d"}
    # check.py looks for these names
    assert [interface["name"] for interface in result.interfaces] == ["eth0"]


@pytest.mark.parametrize("gateway", [None, ""])
def test_an_empty_gateway_is_none(gateway: object) -> None:
    ip, route = {"address": "10.0.0.2/8", "gateway": gateway}, {"dst": "10.0.0.0/8", "gw": gateway}
    result = parse({"ips": [ip], "routes": [route]})
    assert (result.ips, result.routes) == ([{"address": "10.0.0.2/8"}], [{"dst": "10.0.0.0/8"}])


def test_fields_that_nobody_knows_are_not_passed_on_with_addresses_and_routes() -> None:
    result = parse({"ips": [{"address": "10.0.0.2/8", "version": "4", "x": 1}], "routes": [{"dst": "::/0", "x": 1}]})
    assert (result.ips, result.routes) == ([{"address": "10.0.0.2/8"}], [{"dst": "::/0"}])


NUMBERS = ("mtu", "advmss", "priority", "table", "scope")
WRONG_NUMBERS: list[Any] = [-1, 1 << 32, 1.5, "1", True, []]
WRONG_INDEXES: list[Any] = [-1, "0", 0.0, True, 1 << 70]
WRONG: list[tuple[Any, str]] = [
    (None, "must be an object"),
    ([], "must be an object"),
    ("x", "must be an object"),
    (1, "must be an object"),
    ({"interfaces": {}}, "'interfaces' is not a list"),
    ({"interfaces": [1]}, "'interfaces' has an item that is no object"),
    ({"interfaces": [{}]}, "'name' is missing"),
    ({"interfaces": [{"name": 1}]}, "'name'"),
    ({"ips": "10.0.0.2/8"}, "'ips' is not a list"),
    ({"ips": [None]}, "'ips' has an item that is no object"),
    ({"ips": [{}]}, "'address' is missing"),
    ({"ips": [{"address": 1}]}, "'address'"),
    ({"ips": [{"address": "10.0.0.2"}]}, "'10.0.0.2' has no prefix length"),
    ({"ips": [{"address": "x/8"}]}, "'x' is not an IP address"),
    ({"ips": [{"address": "\ud800/8"}]}, "is not an IP address"),
    ({"ips": [{"address": "10.0.0.2/8", "gateway": "x"}]}, "'x' is not an IP address"),
    ({"ips": [{"address": "10.0.0.2/8", "gateway": 1}]}, "'gateway'"),
    ({"ips": [{"address": "10.0.0.2/8", "gateway": "fd00::1"}]}, "another family"),
    *(({"ips": [{"address": "10.0.0.2/8", "interface": index}]}, "'interface'") for index in WRONG_INDEXES),
    ({"routes": {}}, "'routes' is not a list"),
    ({"routes": [[]]}, "'routes' has an item that is no object"),
    ({"routes": [{}]}, "'dst' is missing"),
    ({"routes": [{"dst": "default"}]}, "'default' is not an IP address"),
    ({"routes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}, "another family"),
    ({"routes": [{"dst": "10.0.0.0/8", "gw": 1}]}, "'gw'"),
    *(({"routes": [{"dst": "10.0.0.0/8", key: number}]}, f"'{key}'") for key in NUMBERS for number in WRONG_NUMBERS),
    ({"routes": [{"dst": "10.0.0.0/8", "scope": 256}]}, "'scope'"),
    ({"dns": []}, "'dns' is not an object"),
    ({"ip4": []}, "'ip4' is not an object"),
    ({"ip4": {"gateway": "10.0.0.1"}}, "'ip' is missing"),
    ({"ip4": {"ip": "10.0.0.2"}}, "no prefix length"),
    ({"ip6": {"ip": "fd00::2/64", "routes": 1}}, "'routes' is not a list"),
    ({"ip6": {"ip": "fd00::2/64", "gateway": "10.0.0.1"}}, "another family"),
]


@pytest.mark.parametrize(("values", "said"), WRONG)
def test_what_is_no_result_is_refused_naming_the_part(values: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        parse(values)
    assert said in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-2, 2) | addresses | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["interfaces", "ips", "routes", "dns", "ip4", "ip6", "ip", "address", "gateway", "interface"]
            )
            | st.sampled_from(["dst", "gw", "mtu", "scope", "table", "name", "Name", "mac", "sandbox", "IP4", "IPS"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(anything, st.sampled_from(VERSIONS))
def test_every_value_is_refused_or_is_a_result_that_every_version_can_write(value: object, version: str) -> None:
    try:
        result = parse(value)
    except ValueError:
        return
    assert json.loads(jsontext.encode(render(result, version)))["cniVersion"] == version
