"""The table of keys: each has a form that can be found, and is read with it."""

from __future__ import annotations

import json

import pytest

from cni_ovs.plugin import config as network_config
from cni_ovs.plugin import vlans
from cni_ovs.plugin.config import INSIDE, KEYS, MIRRORS, find_form
from cni_ovs.plugin.errors import CniError
from tests.unit.tools import Json

FORMS = {**KEYS, **INSIDE, **MIRRORS}
# What is wrong for any key but those that are not looked at here.
WRONG: Json = {"mirrors": 1, **{key: [True] for key, form in KEYS.items() if form != "anything"}}
NEEDED: dict[str, Json] = {
    "sharedDir": {"interface_type": "dpdkvhostuser"},
    "mirrors": {"type": "ovs-mirror-consumer"},
}


def parse(keys: Json) -> None:
    values = {"name": "n", "cniVersion": "1.1.0", "type": "ovs", "bridge": "b", **keys}
    network_config.parse(values, json.dumps(values).encode(), "")


@pytest.mark.parametrize("key", FORMS)
def test_every_form_can_be_found(key: str) -> None:
    assert callable(find_form(FORMS[key]))


@pytest.mark.parametrize("key", WRONG)
def test_every_key_is_read_and_the_error_names_it(key: str) -> None:
    with pytest.raises(CniError, match=f"'{key}'") as caught:
        parse({**NEEDED.get(key, {}), key: WRONG[key]})
    assert caught.value.key == key


@pytest.mark.parametrize("name", INSIDE)
def test_so_is_every_key_inside_another(name: str) -> None:
    keys: Json = {"interface_type": "dpdkvhostuser"} if name.endswith("DeviceInfoFile") else {}
    value: object = 5
    for key in reversed(name.split(".")):
        value = {key: value}
    with pytest.raises(CniError, match=f"'{name}'") as caught:
        parse({**keys, **dict([*value.items()] if isinstance(value, dict) else [])})
    assert caught.value.key == name


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"bridge": None}, "bridge"),
        ({"cvlans": [{"id": 1}]}, "cvlans"),
        ({"vlan_mode": "dot1q-tunnel"}, "vlan_mode"),
        ({"deviceID": "0000:03:00.5", "interface_type": "tap"}, "interface_type"),
        ({"deviceID": "0000:03:00.5", "bandwidth": {"egressRate": 5000}}, "bandwidth"),
        ({"interface_type": "dpdkvhostuser", "ipam": {"type": "dhcp"}}, "ipam.type"),
        ({"interface_type": "dpdkvhostuserclient"}, "sharedDir"),
        ({"ipspoofchk": True}, "ipspoofchk"),
        ({"macspoofchk": True, "socket_file": "tcp:127.0.0.1:6640"}, "macspoofchk"),
        ({"ipspoofcheck": True}, "ipspoofcheck"),
        ({"log_file": "/"}, "log_file"),
        ({"plugins": []}, "plugins"),
    ],
)
def test_an_error_about_several_keys_is_at_one_of_them(keys: Json, key: str) -> None:
    with pytest.raises(CniError) as caught:
        parse(keys)
    assert caught.value.key == key


def test_the_limits_of_vlans_are_the_same_everywhere() -> None:
    assert KEYS["vlan"] == ("integer", 0, vlans.HIGHEST)
