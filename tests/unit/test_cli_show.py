"""How the ports of Open vSwitch are told of: VLANs, amounts, texts from outside, rates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.cli import database, output, wording
from cni_ovs.cli.topology import counters
from cni_ovs.cli.topology.counters import Counters
from cni_ovs.cli.topology.model import Port
from cni_ovs.cli.topology.rates import Meter


def interface(statistics: dict[str, int], **columns: Any) -> database.Interface:
    """A row of a port of which only Open vSwitch knows."""
    nothing = dict.fromkeys(("ofport_request", "error", "mac", "mac_in_use", "mtu", "mtu_request", "ifindex"))
    states = dict.fromkeys(("admin_state", "link_state", "link_speed"))
    policing = {"ingress_policing_rate": 0, "ingress_policing_burst": 0}
    maps: dict[str, Any] = {"options": {}, "external_ids": {}, "status": {}}
    values = {"name": "p", "type": "patch", "ofport": 1, **nothing, **states, **policing, **maps, **columns}
    return database.Interface(statistics=statistics, **values)


def row(uuid: str, statistics: dict[str, int]) -> database.Port:
    return database.Port(uuid, uuid, None, [], [], None, None, {}, {}, None, [interface(statistics)])


def openvswitch(*ports: database.Port, other_config: dict[str, str] | None = None) -> database.OpenVSwitch:
    bridge = database.Bridge("br0", "netdev", None, None, [], {}, {}, list(ports))
    return database.OpenVSwitch("3.1.0", "8.3.1", 1, 1, {}, other_config or {}, [], [], False, [bridge])


def port(uuid: str, counted: Counters | None) -> Port:
    return Port(row(uuid, {}), "br0", "patch", counters=counted)


def kernels(number: int) -> Counters:
    return Counters(number * 100, number, 0, 0, number * 50, number, number // 10, 0, counters.HOST)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ((None, None, [], []), "all VLANs"),
        ((None, 5, [], []), "VLAN 5"),
        (("access", None, [], []), "VLAN 0"),
        ((None, None, [7, *range(20, 30)], []), "trunk 7,20-29"),
        (("native-untagged", 5, [7, 9], []), "trunk 7,9, native VLAN 5"),
        (("native-tagged", 5, [], []), "all VLANs, native VLAN 5 (tagged)"),
        (("dot1q-tunnel", 5, [], [7, 8, 9]), "QinQ, customer VLANs 7-9 in VLAN 5"),
        ((None, None, list(range(0, 4095, 2)), []), "trunk 0,2,4,6,8,10,12 and 2041 more"),
    ],
)
def test_vlans_are_told_as_people_tell_them(
    columns: tuple[str | None, int | None, list[int], list[int]], text: str
) -> None:
    assert wording.vlan(*columns) == text


@pytest.mark.parametrize(
    ("columns", "carried"),
    [  # as in docs/vlans.md, which is proven with frames; of 4, 5, 7
        ((None, None, []), {4, 5, 7}),
        ((None, 5, []), {5}),
        (("access", 5, [7]), {5}),
        (("trunk", 5, [7]), {7}),
        (("native-untagged", 5, [7]), {5, 7}),
        (("native-tagged", 5, [7]), {5, 7}),
        (("dot1q-tunnel", 5, [7]), {5}),
    ],
)
def test_what_a_port_carries(columns: tuple[str | None, int | None, list[int]], carried: set[int]) -> None:
    assert {number for number in (4, 5, 7) if wording.carries(number, *columns)} == carried


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12, "12"),
        (0.84, "0.8"),
        (999, "999"),
        (1000, "1 k"),
        (99950, "100 k"),
        (9.6e6, "9.6 M"),
        (5e18, "5000 P"),
    ],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert wording.number(value) == text


@given(st.text(max_size=300), st.integers(8, 100))
def test_any_text_becomes_one_that_a_terminal_only_prints(text: str, longest: int) -> None:
    harmless = wording.short(text, longest)
    assert harmless.isprintable()
    assert len(harmless) <= longest


@given(st.recursive(st.text(), lambda values: st.lists(values) | st.dictionaries(st.text(), values)))
def test_json_is_the_value_and_nothing_that_a_terminal_obeys(value: Any) -> None:
    text = output.json_text(value)
    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == value
    assert "\n" not in output.json_text(value, indent=None)


def test_rates_of_the_kernels_counters_are_those_since_the_reading_before() -> None:
    meter = Meter()
    assert meter.rates([port("a", kernels(100))], 10.0) == {}
    rates = meter.rates([port("a", kernels(300)), port("b", kernels(7))], 12.0)
    assert set(rates) == {"a"}
    assert (rates["a"].in_packets, rates["a"].in_bits, rates["a"].out_drops) == (100, 80000, 10)
    assert rates["a"].age == 0
    assert set(meter.rates([port("a", kernels(0)), port("b", kernels(7))], 14.0)) == {"b"}, "a is another device"


def of_open_vswitch(received: int) -> dict[str, int]:
    return {"rx_bytes": received * 100, "rx_packets": received, "tx_bytes": 0, "tx_packets": 0}


def test_rates_of_open_vswitchs_counters_are_those_between_two_times_of_writing() -> None:
    meter = Meter()

    def at(now: float, first: int, second: int) -> dict[str, tuple[float, float]]:
        rows = [row("a", of_open_vswitch(first)), row("b", of_open_vswitch(second))]
        meter.note(openvswitch(*rows), now)
        ports = [port(found.uuid, counters.of_statistics([found.interfaces[0].statistics])) for found in rows]
        return {uuid: (rates.out_packets, rates.age) for uuid, rates in meter.rates(ports, now).items()}

    assert at(0.0, 0, 0) == {}
    assert at(2.0, 0, 0) == {}, "it has not been seen to write"
    assert at(3.0, 50, 0) == {"a": (10, 0), "b": (0, 0)}
    assert at(5.0, 50, 0) == {"a": (10, 2), "b": (0, 2)}, "it has not written"
    assert at(8.0, 50, 100) == {"a": (0, 0), "b": (20, 0)}, "that of a has not changed"
    assert at(20.0, 50, 100) == {"a": (0, 12), "b": (0, 12)}, "it has written that nothing has changed"
    assert at(43.0, 60, 100) == {"a": (2, 0), "b": (0, 0)}, "it has written 5 s ago as well"


def test_a_slower_open_vswitch_is_known_by_its_setting() -> None:
    meter = Meter()
    slow = {"stats-update-interval": "20000"}
    meter.note(openvswitch(row("a", of_open_vswitch(0)), other_config=slow), 0.0)
    meter.note(openvswitch(row("a", of_open_vswitch(200)), other_config=slow), 7.0)
    counted = counters.of_statistics([of_open_vswitch(200)])
    assert meter.rates([port("a", counted)], 8.0)["a"].out_packets == 10


def test_the_kernels_own_counters_are_read_in_both_directions() -> None:
    loopback = counters.devices()["lo"]
    assert len(loopback) == 16
    numbers = tuple(range(1, 17))
    assert counters.of_far_end(numbers, counters.CONTAINER) == Counters(1, 2, 4, 3, 9, 10, 12, 11, "container")
    assert counters.of_near_end(numbers, counters.HOST) == Counters(9, 10, 12, 11, 1, 2, 4, 3, "host")
