"""JSON with the place of every key and value.

The values are those of the standard library's `json`. It tells no places, and YAML's parsers, which do, refuse some
JSON (long keys, escaped characters beyond the 65,536 first) and take minutes for what `json` reads in a moment. So once
`json` has found the text right, this goes through its tokens.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from .source import of_template

LARGEST = 4 << 20  # bytes; more the plugin does not read
_DEEPEST = 8  # as far as any key of ours is nested; the places of what is deeper are those of what it is in
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_NO_JSON = ("NaN", "Infinity", "-Infinity")  # which `json` reads


class JsonError(ValueError):
    """What is no JSON.

    Attributes:
        offset: where.
        remedy: what to do; "" if nobody knows.
    """

    def __init__(self, offset: int, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.remedy = remedy


@dataclass(slots=True)
class Node:
    """Where a value is.

    Attributes:
        start, end: of the value: offsets of its first character, and behind its last.
        key: the same of the key in front of it; None in a list, and for the whole.
        inner: the members of an object by name (the last of several), or the elements of a list by number.
    """

    start: int
    end: int = 0
    key: tuple[int, int] | None = None
    inner: dict[str | int, Node] = field(default_factory=dict)

    def find(self, path: tuple[str | int, ...]) -> Node | None:
        """The value at a path; None if there is none, or it is nested too deeply to be known."""
        node: Node | None = self
        for part in path:
            node = node.inner.get(part) if node is not None else None
        return node


@dataclass(frozen=True)
class Places:
    """A JSON text that has been read.

    Attributes:
        values: what it says.
        root: where the parts of it are.
        duplicates: the places of keys that an object has had already, and these keys.
    """

    values: Any
    root: Node
    duplicates: list[tuple[int, int, str]]


def read(text: str) -> Places:
    """The value of a text, and its places.

    Raises:
        JsonError: it is no JSON, or not such as the plugin reads.
    """
    if len(text) > LARGEST:
        raise JsonError(0, f"the configuration is larger than {LARGEST >> 20} MiB")
    try:
        values = json.loads(text, parse_constant=_refuse, parse_float=_number)
    except json.JSONDecodeError as error:
        what = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise JsonError(error.pos, f"no JSON: {what}", _remedy(text, error.pos)) from error
    except RecursionError as error:
        raise JsonError(0, "nested too deeply") from error
    except ValueError as error:
        raise _unusable(text) from error
    duplicates: list[tuple[int, int, str]] = []
    return Places(values, _locate(text, duplicates), duplicates)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _remedy(text: str, offset: int) -> str:
    if text.startswith(("//", "/*", "#"), offset):
        return "JSON has no comments: remove it"
    if text.startswith("'", offset):
        return "write it in double quotes"
    if text.startswith(("}", "]"), offset) and text[:offset].rstrip().endswith(","):
        return "remove the comma before it"
    return of_template(text)


def _unusable(text: str) -> JsonError:
    """The error for a number that `json` reads (or Python does not) and JSON, or the plugin, does not have."""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] in "-0123456789NI":
            try:
                json.loads(token, parse_constant=_refuse, parse_float=_number)
            except ValueError:
                what = "is no JSON" if token in _NO_JSON else "is out of range"
                return JsonError(match.start(), f"the number {token[:20]} {what}")
    return JsonError(0, "no JSON")


def _locate(text: str, duplicates: list[tuple[int, int, str]]) -> Node:
    """The places in a text that is JSON. Not recursive: it may be nested as deeply as `json` permits."""
    root = Node(0)
    open_: list[Node] = []  # the objects and lists that we are in
    key: tuple[int, int] | None = None  # that whose value comes next
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("}", "]"):
            open_.pop().end = match.end()
        elif token == ":":
            pass
        elif token == ",":
            key = None
        elif key is None and open_ and text[open_[-1].start] == "{":
            key = match.span()
        else:
            node = root if not open_ else Node(match.start(), key=key)
            node.start, node.end = match.span()
            if open_ and len(open_) <= _DEEPEST:
                _add(open_[-1], node, text, duplicates)
            key = None
            if token in ("{", "["):
                open_.append(node)
    return root


def _add(parent: Node, node: Node, text: str, duplicates: list[tuple[int, int, str]]) -> None:
    name: str | int = len(parent.inner)
    if node.key is not None:
        name = json.loads(text[slice(*node.key)])
        if name in parent.inner:
            duplicates.append((*node.key, str(name)))
    parent.inner[name] = node
