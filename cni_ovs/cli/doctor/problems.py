"""What the doctor can find: kinds of problems, each declared once, and findings, which are problems with their values.

A Problem is a constant beside the check that finds it. docs/doctor.md has them all: a test
compares it, and writes it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from ..output import plain

# Worst first. A "note" is nothing to be mended; with "skipped" and "failed" a check tells of itself.
FAULT, WARNING, NOTE, OK, SKIPPED, FAILED = "fault", "warning", "note", "ok", "skipped", "failed"
LEVELS = (FAULT, WARNING, NOTE)

_LONGEST = 240  # of a value in a message: database rows may have any text
_LONGEST_COMMAND = 1000
_LONGEST_TOLD = 4096  # of a value for programs: a path
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# What several words, or none, stand for in the documentation. The … is for --db.
_WORDS = {"vsctl": "ovs-vsctl …", "datapath": "", "chain": "", "db": "", "numbers": "VLANS", "version": ""}

_WORDING = ("error", "reason")  # values that are texts of other programs

Value = str | int | list[str]


class Skip(Exception):  # noqa: N818 - no error: it says why a check could not be made
    """A check cannot be made here and now; the text says why."""


@dataclass(frozen=True)
class Finding:
    """A problem that was found.

    Attributes:
        problem: of which kind.
        message: what is wrong, in one line of printable characters.
        remedy: what to do, in words; "" where the command says it.
        command: what to type; "" where there is no such command.
        about: the values in these, by name; texts are printable.
    """

    problem: Problem
    message: str
    remedy: str
    command: str
    about: dict[str, str | int] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, dict[str, str]]:
        """What is the same when it is found once more: not a number, nor what others say of it in their own words."""
        kept = {key: value for key, value in self.about.items() if isinstance(value, str) and key not in _WORDING}
        return self.problem.name, kept


@dataclass(frozen=True)
class Problem:
    """A kind of problem. Texts have {placeholders} for the values of a finding.

    Attributes:
        name: for programs; it stays the same.
        level: FAULT, WARNING or NOTE.
        message: what is wrong.
        cause: why that usually is so, for the documentation.
        remedy: what to do, in words.
        command: what to type. A placeholder that is a word of its own may stand for several words.
    """

    name: str
    level: str
    message: str
    cause: str
    remedy: str = ""
    command: str = ""

    def found(self, **values: Value) -> Finding:
        """A finding with these values, wherever they come from."""
        about = {key: value for key, value in values.items() if not isinstance(value, list)}
        told, shown = (
            {key: plain(value, limit) if isinstance(value, str) else value for key, value in about.items()}
            for limit in (_LONGEST_TOLD, _LONGEST)
        )
        message, remedy = self.message.format_map(shown), self.remedy.format_map(shown)
        return Finding(self, message, remedy, _command(self.command, values), told)

    def documented(self) -> tuple[str, str, str, str]:
        """Level, message, cause and what to do, as docs/doctor.md has them."""

        def shown(text: str) -> str:
            return _PLACEHOLDER.sub(lambda found: _WORDS.get(found[1], found[1].upper()), text).strip()

        command = " ".join(shown(self.command).split())
        to_do = [shown(self.remedy), f"`{command}`" if command else ""]
        return self.level, shown(self.message), self.cause, " ".join(filter(None, to_do))


def _command(template: str, values: dict[str, Value]) -> str:
    """A command line with its words quoted; "" if it could not be typed."""
    words: list[str] = []
    for word in template.split():
        value = values.get(word[1:-1]) if _PLACEHOLDER.fullmatch(word) else None
        words += value if isinstance(value, list) else [word.format_map(values)]
    line = shlex.join(words)
    return line if line.isprintable() and len(line) <= _LONGEST_COMMAND else ""
