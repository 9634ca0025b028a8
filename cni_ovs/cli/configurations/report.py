"""Telling of problems as compilers do: file, line and column, and on a terminal the line itself."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..output import plain
from .source import Problem

_STYLES = {"error": "bold red", "warning": "bold yellow", "change": "bold green", "differs": "bold yellow"}


def tell(problems: Iterable[Problem], console: Console) -> None:
    """Print problems."""
    for problem in problems:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        where = plain(problem.path) + place
        line = Text(f"{where}: ")
        line.append(problem.severity, _STYLES[problem.severity])
        line.append(f": {plain(problem.message)}")
        console.print(line, soft_wrap=not console.is_terminal)
        if problem.line and console.is_terminal:
            for text in excerpt(problem, console.width):
                console.print(Text(text), soft_wrap=True)
        if problem.remedy:
            console.print(Text(f"{where}: note: {plain(problem.remedy)}"), soft_wrap=not console.is_terminal)


def excerpt(problem: Problem, width: int) -> tuple[str, str]:
    """The line of a problem, as much of it as there is room for, and a line that marks what is meant."""
    start, end = problem.column - 1, problem.column - 1 + problem.length
    room = max(10, width - 2)
    first = max(0, min(start - width // 3, len(problem.excerpt) - (room - 2)))
    if len(problem.excerpt) <= room and cell_len(problem.excerpt) <= room:
        first = 0
    shown = _masked(problem.excerpt[first : first + room])
    while cell_len(shown) > room:
        shown = shown[:-1]
    before = cell_len(shown[: start - first])
    marked = max(1, cell_len(shown[start - first : end - first]))
    return f" {shown}", f" {' ' * before}^{'~' * (marked - 1)}"


def _masked(text: str) -> str:
    """A text whose characters keep their places, without what would steer a terminal; a tab is one blank."""
    return "".join(" " if c == "\t" else c if c.isprintable() else "\ufffd" for c in text)
