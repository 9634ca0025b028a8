"""What becomes of network definitions of ovs-cni, and that nothing but what has to be is changed in a file."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from cni_ovs.cli.configurations import migration, ovs_cni
from cni_ovs.cli.configurations.migration import CHANGE, DIFFERS, ERROR, Migrated
from cni_ovs.cli.configurations.source import Source
from cni_ovs.plugin.config import KEYS
from tests.unit.tools import Json

PAGE = (Path(__file__).parents[2] / "docs/ovs-cni.md").read_text()
BASE: Json = {"cniVersion": "0.3.1", "name": "n", "type": "ovs", "bridge": "b"}
ONE = [{"id": 42}]


def rows(title: str) -> dict[str, str]:
    """The first two columns of the table whose first column has this title."""
    table = PAGE[PAGE.index(f"| {title} |") :].partition("\n\n")[0].splitlines()[2:]
    return dict(re.split(r" \| ", line.removeprefix("| "))[:2] for line in table)


def test_the_page_has_the_same_table() -> None:
    assert rows("key or argument of ovs-cni") == ovs_cni.ROWS
    assert rows("behaviour of ovs-cni")["an internal port is renamed to CNI_IFNAME"] == ovs_cni.RENAMED


def test_every_key_of_ovs_cni_is_on_the_page_and_known_here() -> None:
    named = {name for row in ovs_cni.ROWS for name in re.findall(r"`(?:runtimeConfig\.)?(\w+)", row)}
    common = {"cniVersion", "name", "type", "prevResult", "args", "runtimeConfig", "capabilities"}  # CNI's
    assert named >= ovs_cni.THEIRS - common
    assert {*KEYS, "mirrors"} >= ovs_cni.THEIRS


def migrated(keys: Json, **json_options: Any) -> tuple[Migrated, Json]:
    result = migration.migrate(Source("/etc/cni/net.d/x.conf", json.dumps({**BASE, **keys}, **json_options)))
    return result, json.loads(result.text)


def found(result: Migrated, severity: str) -> list[str]:
    return [
        one.key for definition in result.definitions for one in definition.findings if one.problem.severity == severity
    ]


CHANGED: list[tuple[Json, Json]] = [
    ({"vlan": 5, "trunk": ONE}, {"trunk": ONE}),
    ({"VLAN": 0, "Trunk": ONE}, {"Trunk": ONE}),
    ({"trunk": [{"minID": 5}, *ONE]}, {"trunk": ONE}),
    ({"trunk": [*ONE, {"maxID": 5}]}, {"trunk": ONE}),
    ({"trunk": [{"minID": 0, "maxID": 5}, *ONE, {}]}, {"trunk": ONE}),
    ({"trunk": [{"id": 42, "minID": 5}]}, {"trunk": ONE}),
    ({"trunk": [{"minid": 5, "ID": 42, "maxID": None}]}, {"trunk": [{"ID": 42, "maxID": None}]}),
    ({"trunk": [{"minID": 0, "maxID": 9, "id": 42}]}, {"trunk": ONE}),
    ({"vlan": 1, "trunk": [{"minID": 1}, {"minID": 1}, *ONE, {"minID": 1}, *ONE]}, {"trunk": [*ONE, *ONE]}),
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(("before", "after"), CHANGED)
def test_what_ovs_cni_ignores_is_taken_out(before: Json, after: Json, indent: int | None) -> None:
    result, values = migrated(before, indent=indent)
    assert values == {**BASE, **after}
    assert found(result, CHANGE) and not found(result, ERROR)
    again = migration.migrate(Source("/etc/cni/net.d/x.conf", result.text))
    assert again.text == result.text and not found(again, CHANGE)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"vlan": 5},
        {"vlan": 5, "trunk": []},
        {"trunk": [*ONE, {"minID": 1, "maxID": 9}]},
        {"vlan": 5, "trunk": ONE, "vlan_mode": "native-untagged"},  # which ovs-cni does not have
    ],
)
def test_what_means_the_same_stays_as_it_is(keys: Json) -> None:
    result, values = migrated(keys)
    assert values == {**BASE, **keys}
    assert not found(result, CHANGE) and not found(result, ERROR)
    assert set(result.definitions[0].keeps) >= BASE.keys()


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"interface_type": "internal"}, "interface_type"),
        ({"interface_type": "veth"}, "interface_type"),
        ({"interface_type": "tap"}, "interface_type"),
        ({"link_state_check_retries": 5}, "link_state_check_retries"),
        ({"deviceID": "0000:03:00.5"}, "deviceID"),
        ({"macspoofchk": True}, "macspoofchk"),
        ({"bandwidth": {}}, "bandwidth"),
    ],
)
def test_what_differs_is_told(keys: Json, key: str) -> None:
    result, values = migrated(keys)
    assert values == {**BASE, **keys}
    assert found(result, DIFFERS) == [key] and not found(result, ERROR)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"interface_type": "gre"}, "interface_type"),
        ({"interface_type": "internal", "deviceID": "0000:03:00.5"}, "interface_type"),
        ({"socket_file": "ssl:1.2.3.4:6640"}, "socket_file"),
        ({"socket_file": "tcp:host.example:6640"}, "socket_file"),
        ({"vlan": 4095}, "vlan"),
        ({"trunk": [{"minID": 7}]}, "trunk"),  # ovs-cni refuses it, too
        ({"trunk": [{"minID": 7}, {"id": 4095}]}, "trunk"),
        ({"configuration_path": "ovs.conf"}, "configuration_path"),
    ],
)
def test_what_only_a_person_can_change_is_an_error(keys: Json, key: str) -> None:
    result, _ = migrated(keys)
    assert found(result, ERROR) == [key]


def test_an_error_in_a_trunk_is_told_where_it_is() -> None:
    text = json.dumps({**BASE, "trunk": [{"minID": 7}, {"id": 1}, {"id": 5000}]})
    [error] = [
        one.problem
        for one in migration.migrate(Source("/etc/cni/net.d/x.conf", text)).definitions[0].findings
        if one.problem.severity == ERROR
    ]
    assert "trunk[2]" in error.message
    assert text[error.column - 1 :].startswith('{"id": 5000}')


def test_plugins_of_others_are_passed_over_and_unknown_keys_stay() -> None:
    for text in ('{"type": "bridge", "vlan": 5, "trunk": [{"id": 4}]}', "kind: Pod"):
        result = migration.migrate(Source("<stdin>", text))
        assert result == Migrated([], text)
    _, values = migrated({"vlna": 5})
    assert values["vlna"] == 5


def test_a_chain_and_a_flat_file_are_migrated_too() -> None:
    wrong = {"bridge": "b", "vlan": 5, "trunk": ONE}
    chain = json.dumps({"cniVersion": "0.3.1", "name": "n", "plugins": [{"type": "tuning"}, {"type": "ovs", **wrong}]})
    result = migration.migrate(Source("x.conflist", chain))
    assert json.loads(result.text)["plugins"][1] == {"type": "ovs", "bridge": "b", "trunk": ONE}
    assert result.definitions[0].keeps == ["cniVersion", "name", "type", "bridge", "trunk"]
    result = migration.migrate(Source("/etc/cni/net.d/ovs.d/ovs.conf", json.dumps(wrong)))
    assert json.loads(result.text) == {"bridge": "b", "trunk": ONE}


def test_a_key_that_is_there_twice_keeps_a_file_from_being_changed() -> None:
    text = json.dumps({**BASE, "vlan": 5, "trunk": ONE}).replace('"vlan": 5', '"vlan": 5, "vlan": 6')
    result = migration.migrate(Source("/etc/cni/net.d/x.conf", text))
    assert result.text == text and found(result, ERROR) == [""]


def test_what_is_nested_deeply_is_no_hindrance() -> None:
    deep = '{"a": ' * 900 + "1" + "}" * 900
    text = json.dumps({**BASE, "vlan": 5, "trunk": ONE, "ipam": "X"}).replace('"X"', deep)
    assert migration.migrate(Source("x.conf", text)).text == text.replace(', "vlan": 5', "")


# YAML

trunks = st.lists(
    st.dictionaries(st.sampled_from(["id", "minID", "maxID", "note"]), st.integers(0, 9), max_size=4),
    min_size=1,
    max_size=4,
)


@given(
    st.lists(
        st.tuples(trunks, st.none() | st.integers(0, 9), st.text("ab '\"\\ä😀\n", max_size=9)), min_size=1, max_size=3
    ),
    st.sampled_from(["|", ">", "'", '"', None]),
    st.sampled_from([None, 1]),
    st.sampled_from([20, 1000]),
    st.booleans(),
    st.permutations(["bridge", "trunk", "vlan", "note"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_in_yaml_only_the_configurations_are_changed_however_they_are_written(
    given_: list[tuple[list[Json], int | None, str]],
    style: str | None,
    indent: int | None,
    width: int,
    as_list: bool,
    order: list[str],
    end: str,
) -> None:
    class Config(str):
        """A string in the style."""

    class Dumper(yaml.SafeDumper):
        """One that knows it."""

    Dumper.add_representer(
        Config, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)
    )
    items = []
    configs = []
    for number, (trunk, vlan, note) in enumerate(given_):
        values = {"bridge": "b", "trunk": trunk, "vlan": vlan, "note": note}
        config = {"cniVersion": "0.3.1", "type": "ovs", **{key: values[key] for key in order}}
        configs.append(json.dumps(config, indent=indent, ensure_ascii=False))
        items.append(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": f"n{number}", "labels": {"a": note}},
                "spec": {"config": Config(configs[-1])},
            }
        )
    whole: Any = {"apiVersion": "v1", "kind": "List", "items": items}
    dumped = (
        yaml.dump(whole, Dumper=Dumper, width=width, allow_unicode=True)
        if as_list
        else yaml.dump_all(items, Dumper=Dumper, width=width, allow_unicode=True)
    )
    text = f"# a comment\n{dumped}# the end\n".replace("\n", end)
    back = list(yaml.safe_load_all(text))
    # PyYAML folds some lines where it must not.
    assume([one["spec"]["config"] for one in (back[0]["items"] if as_list else back)] == configs)
    result = migration.migrate(Source("x.yaml", text))
    before, after = (list(yaml.safe_load_all(one)) for one in (text, result.text))
    lists = [one[0]["items"] if as_list else one for one in (before, after)]
    for old, new in zip(*lists, strict=True):
        first, second = (json.loads(one["spec"].pop("config")) for one in (old, new))
        assert old == new
        assert second == expected(first)
    assert result.text.startswith(f"# a comment{end}") and result.text.endswith(f"# the end{end}")
    if not any(found(result, severity) for severity in (CHANGE,)):
        assert result.text == text


def expected(config: Json) -> Json:
    """What ovs-cni makes of it (SplitVlanIds and ParseOvsPortConfig in its pkg/common/common.go), written for us."""
    config = copy.deepcopy(config)
    kept = []
    for item in config["trunk"]:
        is_range = item.get("minID", 0) > 0 and item.get("maxID", 0) > 0
        left = {key: value for key, value in item.items() if is_range or key not in ("minID", "maxID")}
        if "id" in left or is_range:
            kept.append(left)
    if kept:
        config["trunk"] = kept
        if config["vlan"] is not None:
            del config["vlan"]
    return config
