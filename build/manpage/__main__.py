"""Prints the manual page of `cni-ovs`: what its commands say of themselves, in the language of man(7)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from cni_ovs import __version__
from cni_ovs.cli.app import app

FRAME = Path(__file__).with_name("frame.1")


def page() -> str:
    """The whole page."""
    context = click.Context(app, info_name="cni-ovs")
    found = {name: app.get_command(context, name) for name in app.list_commands(context)}
    commands = [_command(name, one, context) for name, one in found.items() if one is not None and not one.hidden]
    text = FRAME.read_text()
    for name, value in {
        "VERSION": escaped(__version__),
        "DESCRIPTION": "\n.PP\n".join(_paragraphs(app)),
        "COMMANDS": "\n".join(commands),
    }.items():
        text = text.replace(f"@{name}@", value)
    return text


def escaped(text: str) -> str:
    """A text as it is to be printed: no character of it means anything to roff, and `words` are bold."""
    text = text.replace("…", "...")  # which not every terminal has
    text = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    text = re.sub("`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _command(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [rf'.SS "{escaped(f"cni-ovs {name} {usage}")}"', "\n.PP\n".join(_paragraphs(command))]
    for option in command.params:
        record = option.get_help_record(context)
        if record is not None and record[1]:  # an argument has no text
            spelling, text = record
            lines += [".TP", _spelled(spelling), escaped(text)]
    return "\n".join(lines)


def _paragraphs(command: click.Command) -> Iterator[str]:
    """The paragraphs of the help of a command."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        first, *lines = paragraph.splitlines()
        if first == "\b":  # click's mark for lines that stay what they are
            yield "\n".join([".EX", *map(escaped, lines), ".EE"])
        else:
            yield escaped(" ".join(paragraph.split()))


def _spelled(option: str) -> str:
    """`-v, --vlan NUMBER`: what is to be typed is bold, what stands for something else is not."""
    return "".join(
        rf"\fB{escaped(part)}\fR" if part.startswith("-") else rf"\fI{escaped(part)}\fR" if part.isupper() else part
        for part in re.split(r"([ ,/]+)", option)
    )


if __name__ == "__main__":
    print(page(), end="")
