"""Where keys and values are in a text: JSON, and JSON in a string of YAML, however that is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cni_ovs.cli.configurations import jsonplaces, manifests
from cni_ovs.cli.configurations.jsonplaces import JsonError, Node
from cni_ovs.cli.configurations.source import Source

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
# The least that both can write: no characters that YAML 1.1 has not, and no halves of characters.
plain = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("äß世😀"), max_size=6)
objects = st.dictionaries(plain, st.integers() | plain | st.lists(plain, max_size=2), max_size=4)
NAD: dict[str, Any] = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition"}


def assert_places(node: Node, value: Any, text: str) -> None:
    """Each part of a value is where its node says."""
    assert json.loads(text[node.start : node.end]) == value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    assert len(node.inner) == len(value) if isinstance(value, (dict, list)) else not node.inner
    for key, part in parts:
        inner = node.inner[key]
        assert_places(inner, part, text)
        if isinstance(value, dict):
            assert inner.key is not None and json.loads(text[slice(*inner.key)]) == key


@given(values, st.sampled_from([None, 0, 3, "\t"]), st.booleans(), st.sampled_from(["", "\r\n\t "]))
@example({"\ud800": {"a\\": ['"', "\\"]}, "": [{}, []]}, None, True, " ")
def test_every_part_of_a_json_text_is_where_it_is_said_to_be(
    value: Any, indent: int | str | None, ascii_only: bool, around: str
) -> None:
    text = around + json.dumps(value, indent=indent, ensure_ascii=ascii_only) + around
    places = jsonplaces.read(text)
    assert places.values == value
    assert_places(places.root, value, text)
    assert places.duplicates == []


def test_a_key_that_is_there_twice_is_found_at_its_second_place() -> None:
    text = '{"a": 1, "b": {"c": 1, "\\u0063": 2}, "a": {"a": 1}}'
    places = jsonplaces.read(text)
    assert [(text[start:end], key) for start, end, key in places.duplicates] == [('"\\u0063"', "c"), ('"a"', "a")]
    found = places.root.find(("a", "a"))
    assert found is not None and text[found.start :].startswith("1}}")


@pytest.mark.parametrize(
    ("text", "rest", "message", "remedy"),
    [
        ("", "", "expecting value", ""),
        ('{"a": 1\n "b": 2}', '"b": 2}', "expecting ',' delimiter", ""),
        ('{"a": 1,}', "}", "expecting property name", "remove the comma"),
        ("[1, 2,]", "]", "expecting value", "remove the comma"),
        ("{'a': 1}", "'a': 1}", "expecting property name", "double quotes"),
        ('{"a": {{ .Values.a }}}', "{ .Values.a }}}", "expecting property name", "helm template"),
        ('{"a": {{"b": 1}}}', '{"b": 1}}}', "expecting property name", ""),
        ('{"a": 1} // x', "// x", "extra data", "no comments"),
        ('{"a": "NaN", "b": NaN}', "NaN}", "the number NaN is no JSON", ""),
        ('["Infinity", -Infinity]', "-Infinity]", "is no JSON", ""),
        ('["1e999", 1e999]', "1e999]", "out of range", ""),
        ("[1, " + "9" * 5000 + "]", "9" * 5000 + "]", "out of range", ""),
        ('"a\nb"', '\nb"', "invalid control character", ""),
        ("[" * 100_000, "[" * 100_000, "nested too deeply", ""),
        (" " * (jsonplaces.LARGEST + 1), " " * (jsonplaces.LARGEST + 1), "larger than 4 MiB", ""),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text: str, rest: str, message: str, remedy: str) -> None:
    with pytest.raises(JsonError, match=message) as caught:
        jsonplaces.read(text)
    assert text[caught.value.offset :] == rest
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("depth", [50, 900])
def test_what_is_nested_deeply_costs_nothing_and_has_the_place_of_what_it_is_in(depth: int) -> None:
    text = '{"a": ' + "[" * depth + "1,1" + "]" * depth + "}"
    root = jsonplaces.read(text).root
    assert root.find(("a", 0)) is not None
    assert root.find(("a", *[0] * (depth - 1))) is None


# YAML


def written(config: str, style: str | None, width: int) -> str:
    """A NetworkAttachmentDefinition with a configuration in a style of YAML."""

    class Config(str):
        """A string that is written in this style."""

    class Dumper(yaml.SafeDumper):
        """One that knows it."""

    Dumper.add_representer(
        Config, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)
    )
    whole = {**NAD, "metadata": {"name": "a", "namespace": "n"}, "spec": {"config": Config(config)}}
    return yaml.dump(whole, Dumper=Dumper, width=width, allow_unicode=True, sort_keys=False)


@given(
    objects,
    st.sampled_from(["|", ">", "'", '"', None]),
    st.sampled_from([None, 1, 4]),
    st.sampled_from([20, 80, 1000]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
@example({"a": 'it\'s \\ "quoted"'}, "'", 1, 20, False, "\n")
@example({"a  b": "c   d   e   f   g   h"}, '"', 4, 20, True, "\r\n")
@example({"😀": "😀😀"}, "|", 1, 80, False, "\n")
def test_a_configuration_in_yaml_is_found_at_the_places_where_the_file_has_it(
    value: dict[str, Any], style: str | None, indent: int | None, width: int, ascii_only: bool, end: str
) -> None:
    config = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    text = f"# 😀\n---\na: b\n---\n{written(config, style, width)}---\nc: d\n".replace("\n", end)
    [found], problems = manifests.read(Source("x.yaml", text))
    assert problems == []
    assert json.loads(found.text) == value
    assert found.name == "n/a"
    assert found.offsets is not None
    places = jsonplaces.read(found.text)
    for key in value:
        node = places.root.find((key,))
        assert node is not None and node.key is not None
        for at in (node.key[0], node.start):
            assert text[found.place(at)] == (
                "\\" if found.text[at] == '"' and _is_escaped(text, found, at) else found.text[at]
            )


def _is_escaped(text: str, found: manifests.Embedded, at: int) -> bool:
    return text[found.place(at)] == "\\" and text[found.place(at) + 1] == '"'


LITERAL = """\
spec:
  config: |2-  # a comment
        {"bridge": "b",

      "vlan": 5}
"""
HEAD = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n"


def test_a_block_with_an_indicator_and_a_comment_has_its_places() -> None:
    source = Source("x.yaml", HEAD + LITERAL)
    [found], _ = manifests.read(source)
    node = jsonplaces.read(found.text).root.find(("vlan",))
    assert node is not None
    assert source.place(found.place(node.start)) == (7, 15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "no YAML: "),
        ("a: b: c", "no YAML: "),
        ("[" * 50_000, "no YAML: "),
        ("a: \x07", "no YAML: "),
        (f"{HEAD}spec: {{config: {{a: 1}}}}", "must be a string"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(text: str, message: str) -> None:
    found, [problem] = manifests.read(Source("x.yaml", text))
    assert found == []
    assert message in problem.message
    assert problem.line > 0


@pytest.mark.parametrize(
    "text",
    ["", "a: b", "- a\n- b", "kind: Pod", "kind: NetworkAttachmentDefinition", HEAD, f"{HEAD}spec: {{config: }}"]
    + [f"{HEAD}spec: {{}}", "kind: List\nitems: &a [*a]", "&a [*a]", HEAD.replace("/v1", ".other/v1") + LITERAL],
)
def test_other_objects_are_passed_over(text: str) -> None:
    assert manifests.read(Source("x.yaml", text)) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "{{- if .Values.a }}\nb: 1\n{{- end }}\n",
        f"{HEAD}metadata:\n  name: {{{{ .Release.Name }}}}-net\n",
        f"{HEAD}spec:\n  config: {{{{ .Values.config }}}}\n",
    ],
)
def test_what_is_a_template_yet_is_told_with_what_to_do(text: str) -> None:
    _, [problem] = manifests.read(Source("x.yaml", text))
    assert "helm template" in problem.remedy


def test_what_is_merged_from_an_anchor_counts() -> None:
    first = f"- &first\n  {HEAD.replace(chr(10), chr(10) + '  ').rstrip()}\n  spec: {{config: '{{}}'}}\n"
    text = f"kind: List\nitems:\n{first}- <<: *first\n  metadata: {{name: b}}\n- <<: [*first]\n- &a {{<<: *a}}\n"
    found, problems = manifests.read(Source("x.yaml", text))
    assert [embedded.text for embedded in found] == ["{}"] * 3 and problems == []
    assert found[1].name == "b"


def test_those_in_a_list_are_found_in_their_order() -> None:
    items = "".join(
        f"- {json.dumps({**NAD, 'metadata': {'name': name}, 'spec': {'config': '{}'}})}\n" for name in "abc"
    )
    found, _ = manifests.read(Source("x.yaml", f"kind: List\napiVersion: v1\nitems:\n{items}"))
    assert [embedded.name for embedded in found] == ["a", "b", "c"]
