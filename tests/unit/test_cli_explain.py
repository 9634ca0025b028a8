"""What `cni-ovs explain` makes of what was recorded: operations in one line, messages as commands, steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_ovs.cli.rehearsal import gobetween, rtnetlink_text
from cni_ovs.cli.rehearsal.explanation import steps_of
from cni_ovs.cli.rehearsal.ovsdb_text import operation_text, value_text
from cni_ovs.plugin.ovsdb import count, map_of, mutate, select, wait


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("word", "word"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a{b", '"a{b"'),
        (5, "5"),
        (True, "true"),
        (["set", []], "[]"),
        (["set", [1, 2]], "[1, 2]"),
        (["uuid", "1234"], "1234"),
        (["named-uuid", "row"], "@row"),
        (map_of({"a": "b", "c d": ""}), '{a: b, "c d": ""}'),
        (["map", [[0, ["named-uuid", "queue"]]]], "{0: @queue}"),
    ],
)
def test_a_value_of_ovsdb_is_shown_without_its_notation(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (count("Interface"), "count Interface"),
        (select("Port", [["name", "==", "p"]], ["tag", "name"]), "select Port where name == p: tag, name"),
        (wait("Bridge", [], "==", {"name": "b"}, 0), "wait Bridge: until name is b, or fail at once"),
        (wait("Port", [], "!=", {"tag": 7}, 9), "wait Port: until tag is not 7, at most 9 ms"),
        (mutate("Bridge", [], ["ports", "delete", ["set", []]]), "mutate Bridge: ports delete []"),
        ({"op": "update", "table": "Port", "where": [], "row": {"tag": 3}}, "update Port: tag=3"),
        ({"op": "insert", "table": "Port", "uuid": "12", "row": {"tag": 3}}, "insert Port 12: tag=3"),
        ({"op": "insert", "table": "QoS", "uuid-name": "q", "row": {}}, "insert QoS @q: "),
        ({"op": "delete", "table": "QoS", "where": [["type", "!=", ""]]}, 'delete QoS where type != ""'),
        ({"op": "abort"}, "abort "),
    ],
)
def test_an_operation_is_one_line(operation: dict[str, Any], text: str) -> None:
    assert " ".join(operation_text(operation)) == text


def test_what_only_asks_changes_nothing() -> None:
    asking = [count("Interface"), select("Port", [], []), wait("Port", [], "==", {}, 0), {"op": "comment"}]
    assert not gobetween.changes(asking)
    for change in (mutate("Port", [], []), {"op": "insert"}, {"op": "delete"}, {"op": "update", "row": {"tag": 3}}):
        assert gobetween.changes([*asking, change])


def test_a_pretended_open_vswitch_has_the_bridge_and_nothing_else() -> None:
    pretended = gobetween.Pretended("br0", "netdev")
    questions = [
        select("Bridge", [["name", "==", "br0"]], ["datapath_type"]),
        select("Bridge", [["name", "==", "br1"]], ["datapath_type"]),
        select("Port", [], ["name"]),
        count("Interface"),
    ]
    found = pretended.call("transact", ["Open_vSwitch", *questions])
    assert found == [{"rows": [{"datapath_type": "netdev"}]}, {"rows": []}, {"rows": []}, {"count": 0}]


def test_messages_follow_each_other_without_a_separator_and_may_come_in_parts() -> None:
    sent = '{"id": 1, "a": "ü"}{"id": 2}\n{"id"'.encode()
    for cut in range(len(sent)):
        first, rest = gobetween._messages(sent[:cut])
        second, rest = gobetween._messages(rest + sent[cut:])
        assert [message["id"] for message in first + second] == [1, 2]
        assert json.loads(rest + b": 3}") == {"id": 3}


def test_a_message_that_nobody_foresaw_is_shown_as_it_is() -> None:
    assert rtnetlink_text.text("RTM_NEWNEIGH", {"a": 1}) == "RTM_NEWNEIGH {'a': 1}"


def test_names_take_the_place_of_numbers_at_every_depth() -> None:
    message = {"index": 3, "RTA_MULTIPATH": [{"oif": 4}], "a": {"IFLA_NET_NS_FD": 9, "index": 0}}
    named = rtnetlink_text.with_names(message, lambda index: f"eth{index}", lambda fd: f"NS{fd}")
    assert named == {"interface": "eth3", "RTA_MULTIPATH": [{"oif": "eth4"}], "a": {"IFLA_NET_NS_FD": "NS9"}}


def test_what_belongs_together_is_one_step_and_a_log_line_stays_with_what_is_before_it() -> None:
    look = {"kind": "transaction", "changes": False, "operations": [select("Bridge", [], ["name"])]}
    insert = {"kind": "transaction", "changes": True, "operations": [{"op": "insert", "table": "Port"}]}
    said = {"kind": "log", "level": "debug", "text": "done"}
    warned = {"kind": "log", "level": "warning", "text": "unknown key"}
    sysctl = {"kind": "sysctl", "key": "ipv4/conf/eth0/arp_notify", "value": "1"}
    steps = steps_of([warned, look, look, insert, said, sysctl, sysctl])
    assert [step.key for step in steps] == ["look", "look", "insert", "addresses"]
    assert [len(step.records) for step in steps] == [1, 1, 2, 2]
