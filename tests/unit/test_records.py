"""What is read from Open vSwitch's external_ids: anybody may have written it."""

from __future__ import annotations

import contextlib
import json
from typing import cast

import pytest

from cni_ovs.plugin import attachment, detaching, forms
from cni_ovs.plugin.vswitch import Vswitch

NETWORK = {"owner": "cni-ovs", "contNetwork": "net"}
RECORD = {**NETWORK, "contID": "pod", "contIface": "eth0", "contNetns": "/run/netns/x"}


class _Bridges:
    """As much of Vswitch as is asked for notes."""

    def __init__(self, external_ids: dict[str, str]) -> None:
        self._external_ids = external_ids

    def notes(self) -> dict[str, str]:
        return self._external_ids


def notes(text: str, name: str | None = None) -> list[dict[str, str]]:
    """Those that are found when this is a bridge's note, for the port that it is about unless told otherwise."""
    if name is None:
        name = "x"
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
            said = json.loads(text)
            name = attachment.port_name(said["contNetwork"], said["contID"], said["contIface"])
    return list(detaching.notes(cast("Vswitch", _Bridges({f"cni-ovs-detaching-{name}": text})), NETWORK).values())


def test_a_note_is_found_under_the_name_of_its_port_only() -> None:
    # GC removes the device of that name, whatever it is.
    name = attachment.port_name("net", "pod", "eth0")
    assert list(detaching.note(name, RECORD)) == [f"cni-ovs-detaching-{name}"]
    assert notes(*detaching.note(name, RECORD).values()) == [RECORD]
    for other in ("eth0", "", "docker0", name.upper(), f"{name}x", attachment.port_name("net", "pod", "eth1")):
        assert notes(json.dumps(RECORD), other) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"a":' * 5000, "\x01", json.dumps([RECORD])])
def test_a_note_that_is_none_is_passed_over(text: str) -> None:
    assert notes(text) == []


@pytest.mark.parametrize("key", RECORD)
@pytest.mark.parametrize("value", [None, 5, [], {}, "a\0b", "\ud800"], ids=ascii)
def test_a_note_with_what_open_vswitch_cannot_keep_is_none_of_ours(key: str, value: object) -> None:
    # The IPAM plugin would get it as a variable, which can have no NUL in it, and is bytes.
    assert notes(json.dumps({**RECORD, key: value})) == []


@pytest.mark.parametrize("key", ["contID", "contIface"])
@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "../../etc", "a b", "a\nb", "\x1b[2J", "-n", "x" * 200_000])
def test_names_that_no_runtime_gives_tell_of_no_attachment(key: str, value: str) -> None:
    odd = {**RECORD, key: value}
    if (key, value) in (("contIface", "-n"), ("contIface", "\x1b[2J")):  # the kernel would take these
        assert forms.tells_attachment(odd)
        return
    assert not forms.tells_attachment(odd)
    assert notes(json.dumps(odd)) == []


@pytest.mark.parametrize("key", ["contID", "contIface"])
def test_an_incomplete_record_tells_of_no_attachment(key: str) -> None:
    assert forms.tells_attachment(RECORD)
    assert not forms.tells_attachment({name: value for name, value in RECORD.items() if name != key})


@pytest.mark.parametrize(("netns", "passed_on"), [("/" * 4095, "/" * 4095), ("/" * 4096, ""), ("/" * 200_000, "")])
def test_a_path_that_is_too_long_for_one_is_not_passed_on(netns: str, passed_on: str) -> None:
    # A variable of more than 128 KiB would keep the IPAM plugin from being started.
    assert attachment.variables({**RECORD, "contNetns": netns})["CNI_NETNS"] == passed_on
