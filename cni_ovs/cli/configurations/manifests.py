"""Networks in Kubernetes objects: NetworkAttachmentDefinitions in YAML (or JSON), and where their configurations are.

The configuration is a string of JSON in `spec.config`, written in any of YAML's five ways. A place in that string is
found in the file by going through both: but for the escapes of quoted strings, YAML changes only white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from .source import Problem, Source, of_template

KIND, GROUP = "NetworkAttachmentDefinition", "k8s.cni.cncf.io/"
RESOURCE = "k8s.v1.cni.cncf.io/resourceName"  # an annotation: what pods of the network ask a device plugin for
# libyaml bounds nesting and is ten times as fast, but PyYAML may have been built without it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_OBJECTS = 100_000
_DEEPEST_LIST = 3
_MERGE, _DEEPEST_MERGE = "tag:yaml.org,2002:merge", 3
# What a quoted string has instead of a character: YAML 1.1, "Escaping".
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|[\s\S])")
_ESCAPED = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_ESCAPED |= {"e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0"}
_ESCAPED |= {"L": "\u2028", "P": "\u2029", "\n": "", "\r": ""}


@dataclass(frozen=True)
class Embedded:
    """The configuration in a NetworkAttachmentDefinition.

    Attributes:
        name: of the object, with its namespace if it has one: "default/vlan100".
        text: the JSON.
        start: where its scalar begins in the file.
        offsets: of each of its characters in the file, and behind its last; None where nobody knows: `start` is meant.
        resource: the annotation `resourceName`, its place behind it; None if there is none.
    """

    name: str
    text: str
    start: int
    offsets: list[int] | None
    resource: tuple[str, int] | None

    def place(self, offset: int) -> int:
        """Where a character of the configuration is in the file."""
        return self.start if self.offsets is None else self.offsets[min(offset, len(self.text))]


def read(source: Source) -> tuple[list[Embedded], list[Problem]]:
    """The configurations in all documents of a text, and what is wrong. Objects of other kinds are passed over."""
    found: list[Embedded] = []
    problems: list[Problem] = []
    try:
        for document in yaml.compose_all(source.text, Loader=_Loader):
            for definition in _definitions(document):
                _take(source, definition, found, problems)
    except yaml.MarkedYAMLError as error:
        offset = error.problem_mark.index if error.problem_mark is not None else 0
        what = ", ".join(text for text in (error.context, error.problem) if text)
        remedy = of_template(source.text)
        problems.append(source.problem(min(offset, len(source.text)), f"no YAML: {what}", remedy))
    except yaml.reader.ReaderError as error:
        problems.append(source.problem(_unprintable(source.text), f"no YAML: {error.reason}"))
    except RecursionError:
        problems.append(source.problem(0, "no YAML: nested too deeply"))
    return found, problems


def _unprintable(text: str) -> int:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    return found.start() if found else 0


def _definitions(document: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """The NetworkAttachmentDefinitions in a document, those in a List too."""
    waiting = [(document, 0)]
    for _ in range(_MOST_OBJECTS):
        if not waiting:
            return
        node, depth = waiting.pop()
        if not isinstance(node, yaml.MappingNode):
            continue
        members = _members(node)
        kind, version = (_text(members.get(key)) or "" for key in ("kind", "apiVersion"))
        items = members.get("items")
        if kind == KIND and version.startswith(GROUP):
            yield node
        elif kind.endswith("List") and isinstance(items, yaml.SequenceNode) and depth < _DEEPEST_LIST:
            waiting += [(item, depth + 1) for item in reversed(items.value)]


def _members(node: yaml.Node | None, depth: int = 0) -> dict[str, yaml.Node]:
    """The members of an object, with those that it takes from others (`<<: *anchor`)."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    own: dict[str, yaml.Node] = {}
    taken: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if key.tag == _MERGE and depth < _DEEPEST_MERGE:
            for other in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                taken |= _members(other, depth + 1)
        elif isinstance(key, yaml.ScalarNode):
            own[key.value] = value
    return taken | own


def _text(node: yaml.Node | None) -> str | None:
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _take(source: Source, node: yaml.MappingNode, found: list[Embedded], problems: list[Problem]) -> None:
    members = _members(node)
    metadata = _members(members.get("metadata"))
    names = (_text(metadata.get("namespace")), _text(metadata.get("name")))
    spec = members.get("spec")
    config = _members(spec).get("config")
    # Without it Multus takes the configuration from a file of the node.
    if config is None or (isinstance(config, yaml.ScalarNode) and config.value in ("", "null", "~")):
        return
    start = config.start_mark.index
    if not isinstance(config, yaml.ScalarNode):
        remedy = of_template(source.text) or "write `config: |` before it"
        problems.append(source.problem(start, "'spec.config' must be a string of JSON", remedy))
        return
    resource = _members(metadata.get("annotations")).get(RESOURCE)
    found.append(
        Embedded(
            name="/".join(name for name in names if name),
            text=config.value,
            start=start,
            offsets=_offsets(source.text, config),
            resource=(_text(resource) or "", resource.start_mark.index) if resource is not None else None,
        )
    )


def _offsets(text: str, node: yaml.ScalarNode) -> list[int] | None:
    """Where each character of a scalar's value is in the text; None if they cannot be found."""
    places = _characters(text, node)
    found: list[int] = []
    last = node.start_mark.index
    for character in node.value:
        if character.isspace():
            found.append(last)
            continue
        at, written, end = next(places, (0, "", 0))
        if written != character:
            return None
        found.append(at)
        last = end
    return [*found, last]


def _characters(text: str, node: yaml.ScalarNode) -> Iterator[tuple[int, str, int]]:
    """The characters of a scalar, but for white space: where each is, what it means, and where it ends."""
    at, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">"):
        at = text.find("\n", at)  # behind are only signs and a comment
    elif node.style in ("'", '"'):
        at, end = at + 1, end - 1
    while at < end:
        width, character = 1, text[at]
        if node.style == "'" and character == "'":
            width = 2
        elif node.style == '"' and character == "\\" and (escape := _ESCAPE.match(text, at)):
            width = len(escape[0])
            digits = escape[1] or escape[2] or escape[3]
            character = chr(int(digits, 16)) if digits else _ESCAPED.get(escape[0][1], "")
        if not character.isspace() and character:
            yield at, character, at + width
        at += width
