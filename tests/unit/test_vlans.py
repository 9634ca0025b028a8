"""The keys of a port's VLANs: what each means alone and with others, and which contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_configuration import parse, refused
from tests.unit.tools import Json

ONE = [{"id": 7}]
TWO = [{"id": 7}, {"id": 9}]


def columns(keys: Json) -> Json:
    """What Open vSwitch is told with these keys."""
    vlans = parse(keys).vlans
    return {} if vlans is None else vlans.columns()


def of(mode: str, tag: int | None = None, trunks: list[int] | None = None, cvlans: list[int] | None = None) -> Json:
    """Columns of a Port row."""
    found: Json = {"vlan_mode": mode}
    if tag is not None:
        found["tag"] = tag
    for key, value in (("trunks", trunks), ("cvlans", cvlans)):
        if value is not None:
            found[key] = ["set", value]
    return found


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {}),
        ({"vlan": None, "trunk": None, "vlan_mode": None, "cvlans": None}, {}),
        ({"trunk": [], "vlan_mode": "", "cvlans": []}, {}),
        ({"vlan": 0}, of("access", 0)),
        ({"vlan": 4094}, of("access", 4094)),
        ({"vlan": 5, "trunk": []}, of("access", 5)),
        ({"trunk": ONE}, of("trunk", None, [7])),
        ({"vlan": 5, "trunk": ONE}, of("native-untagged", 5, [7])),  # ovs-cni drops the VLAN
        ({"vlan": 0, "trunk": ONE}, of("native-untagged", 0, [7])),
        ({"vlan_mode": "access"}, of("access")),
        ({"vlan_mode": "access", "vlan": 5}, of("access", 5)),
        ({"vlan_mode": "trunk"}, of("trunk")),
        ({"vlan_mode": "trunk", "trunk": TWO}, of("trunk", None, [7, 9])),
        *(({"vlan_mode": mode}, of(mode)) for mode in ("native-tagged", "native-untagged")),
        *(({"vlan_mode": mode, "vlan": 5}, of(mode, 5)) for mode in ("native-tagged", "native-untagged")),
        *(
            ({"vlan_mode": mode, "vlan": 5, "trunk": TWO}, of(mode, 5, [7, 9]))
            for mode in ("native-tagged", "native-untagged")
        ),
        ({"vlan_mode": "dot1q-tunnel", "vlan": 5}, of("dot1q-tunnel", 5)),
        ({"vlan_mode": "dot1q-tunnel", "vlan": 5, "cvlans": TWO}, of("dot1q-tunnel", 5, None, [7, 9])),
    ],
)
def test_what_the_keys_mean(keys: Json, expected: Json) -> None:
    assert columns(keys) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"id": 0}], [0]),
        ([{"id": 4094}, {"id": 1}, {"id": 1}], [1, 4094]),
        ([{"minID": 0, "maxID": 0}], [0]),
        ([{"minID": 3, "maxID": 5}], [3, 4, 5]),
        ([{"minID": 3, "maxID": 5}, {"id": 4}, {"minID": 5, "maxID": 6}, {"id": 1}], [1, 3, 4, 5, 6]),
        ([{"id": 9, "minID": 3, "maxID": 4}], [3, 4, 9]),  # as ovs-cni understands it
        ([{"ID": 9}, {"minid": 3, "MAXID": 4}], [3, 4, 9]),  # as Go's clients may write it
        ([{"id": 9, "minID": None, "maxID": None}], [9]),
        ([{"minID": 0, "maxID": 4094}], list(range(4095))),
    ],
)
@pytest.mark.parametrize("key", ["trunk", "cvlans"])
def test_vlans_are_merged_and_sorted(key: str, value: Any, expected: list[int]) -> None:
    others: Json = {"vlan_mode": "dot1q-tunnel", "vlan": 5} if key == "cvlans" else {}
    column = "cvlans" if key == "cvlans" else "trunks"
    assert columns({key: value, **others})[column] == ["set", expected]


@pytest.mark.parametrize(
    ("mode", "key", "value"),
    [
        ("access", "trunk", ONE),
        ("access", "cvlans", ONE),
        ("trunk", "vlan", 0),
        ("trunk", "vlan", 5),
        ("trunk", "cvlans", ONE),
        ("native-tagged", "cvlans", ONE),
        ("native-untagged", "cvlans", ONE),
        ("dot1q-tunnel", "trunk", ONE),
    ],
)
def test_what_does_not_go_with_the_mode_is_refused_naming_both(mode: str, key: str, value: Any) -> None:
    vlan = {"vlan": 5} if mode not in ("trunk",) else {}
    error = refused({**vlan, "vlan_mode": mode, key: value})
    assert error.code == 7
    assert f"'vlan_mode' {mode!r}" in error.msg
    assert repr(key) in error.msg and ("7" in error.msg or str(value) in error.msg)


@pytest.mark.parametrize("others", [{}, {"vlan": 5}, {"trunk": ONE}, {"vlan": 5, "trunk": ONE}])
def test_customer_vlans_without_a_tunnel_are_refused(others: Json) -> None:
    error = refused({"cvlans": ONE, **others})
    assert error.code == 7
    assert "'cvlans'" in error.msg and "'dot1q-tunnel'" in error.msg


def test_a_tunnel_needs_its_service_vlan() -> None:
    error = refused({"vlan_mode": "dot1q-tunnel", "cvlans": ONE})
    assert error.code == 7
    assert "'vlan_mode' 'dot1q-tunnel'" in error.msg and "'vlan'" in error.msg


@pytest.mark.parametrize("keys", [{"vlan": 5}, {"vlan": "x"}, {"vlan_mode": "trunk", "vlan": 5}])
def test_they_are_nothing_to_del_and_gc(keys: Json) -> None:
    assert parse(keys, lenient=True).vlans is None
