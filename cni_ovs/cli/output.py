"""What is printed: text for people in the width of their terminal, and JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

# In a file or a pipe nothing needs to be cut or wrapped.
_UNLIMITED = 1000


def console() -> Console:
    """Where text for people goes: stdout. Colours are on a terminal only, and not with NO_COLOR."""
    width = None if sys.stdout.isatty() else _UNLIMITED
    return Console(highlight=False, width=width, emoji=False, markup=False)


def print_json(value: Any) -> None:
    """Print one JSON value, indented, with its keys in their order."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def plain(text: str) -> str:
    """A text from outside without what would steer a terminal: each character that is not printable becomes "?"."""
    return "".join(char if char.isprintable() else "?" for char in text)
