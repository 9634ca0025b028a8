"""The results as tables that people can read, on a terminal and in Markdown alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from build.benchmark.results import Cell, Results

BEGIN, END = "<!-- written by build/bench: begin -->", "<!-- written by build/bench: end -->"
MS, MB, KB = 1e3, 1e-6, 1e-3
_TEXTS = ("IPAM", "plugin")  # the columns that are no numbers

Column = tuple[str, Callable[[Cell], str]]


def report(measured: dict[str, Any]) -> str:
    """Everything that build/bench prints; `measured` is what it writes as JSON."""
    results = Results.from_json(measured["cells"])
    return f"{headline(measured)}\n\n{tables(results, measured['sizes'])}"


def headline(measured: dict[str, Any]) -> str:
    """When, where and what."""
    machine, runs = measured["machine"], measured["settings"]["runs"]
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    text = (
        f"{measured['date']}; {machine['cores']} cores, Linux {machine['kernel']} ({machine['architecture']}), "
        f"userspace datapath; up to {runs} runs in turn; {versions}."
    )
    left_out = measured["left_out"]
    return text + (f" Left out, because not there: {', '.join(left_out)}." if left_out else "")


def tables(results: Results, sizes: dict[str, int]) -> str:
    """Every table for which there are results, each with its title."""

    def value(head: str, name: str, unit: float = 1, digits: int = 1) -> Column:
        return head, lambda cell: _number(cell.median(name), unit, digits)

    def timed(head: str, name: str) -> Column:
        return f"{head} ms (min)", lambda cell: _with_least(cell, name)

    def ratio(name: str) -> Column:
        return "ratio", lambda cell: _number(results.ratio(cell, name), 1, 2)

    def counted(name: str, head: str = "runs") -> list[Column]:
        return [
            (head, lambda cell: str(len(cell.samples.get(name, [])))),
            ("failed", lambda cell: str(len(cell.failures))),
        ]

    def share(head: str, name: str) -> Column:
        return head, lambda cell: f"{sum(cell.samples.get(name, [])):.0f} of {len(cell.samples.get(name, []))}"

    both = [
        *(timed("ADD", "add"), ratio("add"), value("CPU ms", "add_cpu", MS), ratio("add_cpu")),
        *(timed("DEL", "delete"), ratio("delete"), value("CPU ms", "delete_cpu", MS), ratio("delete_cpu")),
    ]
    rates = [value("ADD per second", "add"), ratio("add"), value("DEL per second", "delete"), ratio("delete")]
    talk = [
        *(value("system calls", "system_calls", digits=0), ratio("system_calls")),
        *(value("round trips", "round_trips", digits=0), value("connections", "connections", digits=0)),
        value("kB received", "received", KB),
    ]
    memory = [value("largest process MB", "add", MB), ratio("add")]
    parts: list[tuple[str, str, list[Column]]] = [
        ("One at a time", "attach", [*both, *counted("add")]),
        (
            "From the start of ADD to the first answered ping",
            "attach",
            [
                timed("first answer", "ping"),
                ratio("ping"),
                share("first request lost", "first_lost"),
                share("late", "first_late"),
            ],
        ),
        ("Sixteen at once", "rate", [*rates, *counted("add", "rounds")]),
        ("Peak memory of one ADD", "memory", [*memory, *counted("add")]),
        ("System calls of one ADD, and its talk with ovsdb-server", "calls", [*talk, *counted("system_calls")]),
    ]
    condition: list[Column] = [
        ("ports", lambda cell: f"{cell.ports:,}"),
        ("IPAM", lambda cell: cell.ipam),
        ("plugin", lambda cell: cell.plugin),
    ]
    texts = []
    for title, measure, columns in parts:
        if cells := results.of(measure, list(sizes)):
            shown = condition + columns
            rows = [[text(cell) for _, text in shown] for cell in cells]
            texts.append(_table(title, [head for head, _ in shown], rows))
    texts.append(_table("Size on disk", ["plugin", "MB"], [[name, f"{size * MB:.1f}"] for name, size in sizes.items()]))
    return "\n\n".join(texts)


def write_into(page: Path, text: str) -> None:
    """Replaces what is between the two marks on the page; ValueError when they are not there."""
    old = page.read_text()
    new, count = re.subn(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", old, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{page} does not have the lines {BEGIN} and {END} once each")
    page.write_text(new)


def _number(number: float | None, unit: float, digits: int) -> str:
    return "-" if number is None else f"{number * unit:.{digits}f}"


def _with_least(cell: Cell, name: str) -> str:
    median = cell.median(name)
    return "-" if median is None else f"{median * MS:.1f} ({min(cell.samples[name]) * MS:.1f})"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned in plain text too: texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(texts: Sequence[str]) -> str:
        aligned = [
            text.ljust(width) if name in _TEXTS else text.rjust(width)
            for text, width, name in zip(texts, widths, head, strict=True)
        ]
        return f"| {' | '.join(aligned)} |"

    rule = line(
        ["-" * width if name in _TEXTS else "-" * (width - 1) + ":" for width, name in zip(widths, head, strict=True)]
    )
    return "\n".join([f"### {title}", "", line(head), rule, *map(line, rows)])
