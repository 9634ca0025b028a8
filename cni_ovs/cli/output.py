"""What is printed: text for people in the width of their terminal, and JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click
from rich.console import Console
from rich.text import Text

# In a file or a pipe nothing needs to be cut or wrapped.
_UNLIMITED = 1000


def console(kind: type[Console] = Console, *, to_stderr: bool = False) -> Console:
    """Where text for people goes: stdout, or stderr. Colours are on a terminal only, and not with NO_COLOR."""
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else _UNLIMITED
    return kind(highlight=False, width=width, emoji=False, markup=False, stderr=to_stderr)


class _Lasting(Console):
    """A console that prints to nobody, once its reader has gone."""

    def on_broken_pipe(self) -> None:
        """What rich calls then; its own ends the process."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def say(line: str | Text) -> None:
    """Print a line of a command that changes something: it goes on when nobody reads any more."""
    console(_Lasting).print(line, soft_wrap=isinstance(line, str))


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value; see json_text."""
    click.echo(json_text(value, indent=indent))


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """A JSON value, indented or (None) in one line, with its keys in their order.

    What a terminal might obey, and what is no character at all, is written as an escape: names come from anywhere.
    """
    lines = json.dumps(value, indent=indent, ensure_ascii=False).split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines)


def _escaped(char: str) -> str:
    """A character of a JSON text; those that are not printable are within a string."""
    return char if char.isprintable() else json.dumps(char)[1:-1]


def plain(text: str, longest: int | None = None) -> str:
    """A text from outside in one line: what a terminal or a browser might obey is escaped, and what is long is cut."""
    cut = text if longest is None or len(text) <= longest else text[: longest - 1] + "…"
    if cut.isprintable():
        return cut
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)
    return escaped if longest is None or len(escaped) <= longest else escaped[: longest - 1] + "…"
