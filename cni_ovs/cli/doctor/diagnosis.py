"""How the doctor tells what it has found: for people in the width of their terminal, and as JSON."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from .examination import ORDER, Outcome, exit_code, worst_first
from .problems import FAILED, FAULT, LEVELS, NOTE, OK, SKIPPED, WARNING, Finding

_STYLES = {FAULT: "bold red", FAILED: "bold red", WARNING: "yellow", NOTE: "cyan", SKIPPED: "dim", OK: "green"}
_MARGIN = 9  # as long as the longest level, and a little
_TO_DO = "to do: "
_AT_ONCE = 3  # of one kind of problem; a machine with a hundred stale ports has one problem
_RESULTS = {0: "healthy", 1: "failed", 3: "warnings", 4: "faults"}
_REPORT = "please report it, with the output of --json"


def print_text(console: Console, outcomes: list[Outcome], *, verbose: bool, with_notes: bool) -> None:
    """Print what was found, worst first, and a line that sums up; the checks themselves only if `verbose`.

    Args:
        console: where to.
        outcomes: of all checks.
        verbose: everything.
        with_notes: notes also where nothing is wrong.
    """
    shown = worst_first(outcomes)
    if not verbose and not with_notes and exit_code(outcomes) == 0:
        shown = []
    for finding, more in [(finding, 0) for finding in shown] if verbose else _grouped(shown):
        _print(console, finding.problem.level, finding.message, finding.remedy, finding.command, more)
    for outcome in outcomes:
        if outcome.result == FAILED:
            _print(console, FAILED, f"the check {outcome.check.name} itself: {outcome.reason}", _REPORT)
    if verbose:
        for outcome in sorted(outcomes, key=lambda outcome: ORDER.index(outcome.result)):
            reason = f" ({outcome.reason})" if outcome.reason else ""
            _print(console, outcome.result, f"{outcome.check.about}{reason}", spaced=False)
    console.print(Text(_sum(outcomes, is_all_shown=verbose or with_notes)), soft_wrap=True)


def as_json(outcomes: list[Outcome], target: str | None) -> dict[str, Any]:
    """The same for programs; docs/command.md describes the keys."""
    code = exit_code(outcomes)
    names = {id(finding): outcome.check.name for outcome in outcomes for finding in outcome.findings}
    return {
        "result": _RESULTS[code],
        "exit_code": code,
        "target": target,
        "findings": [
            {
                "level": finding.problem.level,
                "problem": finding.problem.name,
                "check": names[id(finding)],
                "message": finding.message,
                "remedy": finding.remedy,
                "command": finding.command,
                "values": finding.about,
            }
            for finding in worst_first(outcomes)
        ],
        "checks": [
            {
                "check": outcome.check.name,
                "about": outcome.check.about,
                "result": outcome.result,
                "reason": outcome.reason,
                "seconds": round(outcome.seconds, 3),
            }
            for outcome in outcomes
        ],
    }


def _grouped(findings: list[Finding]) -> Iterator[tuple[Finding, int]]:
    """Findings, of each kind a few, and one for each command; with the last of a kind, how many are left out."""
    chosen: list[Finding] = []
    more: Counter[str] = Counter()
    for finding in findings:
        alike = [other for other in chosen if other.problem is finding.problem]
        if len(alike) < _AT_ONCE and not any(finding.command and other.command == finding.command for other in alike):
            chosen.append(finding)
        else:
            more[finding.problem.name] += 1
    last = {finding.problem.name: finding for finding in chosen}
    for finding in chosen:
        name = finding.problem.name
        yield finding, more[name] if last[name] is finding else 0


def _print(
    console: Console,
    level: str,
    message: str,
    remedy: str = "",
    command: str = "",
    more: int = 0,
    *,
    spaced: bool = True,
) -> None:
    width = console.width - _MARGIN
    label = Text(level.ljust(_MARGIN), style=_STYLES.get(level, ""))
    lines = [(line, "") for line in textwrap.wrap(message, width, break_on_hyphens=False)]
    to_do = [(line, "") for line in textwrap.wrap(remedy, width - len(_TO_DO), break_on_hyphens=False)]
    to_do += [(line, "bold") for line in _typed(command, width - len(_TO_DO))]
    for number, (line, style) in enumerate(to_do):
        lines.append(((_TO_DO if not number else " " * len(_TO_DO)) + line, style))
    if more:
        lines.append((f"and {more} more like this (--verbose shows them)", "dim"))
    for number, (line, style) in enumerate(lines):
        # soft_wrap: a word that is too long for the terminal is not broken, so that it can be copied.
        console.print(label if not number else " " * _MARGIN, Text(line, style=style), sep="", soft_wrap=True)
    if spaced:
        console.print()


def _typed(command: str, width: int) -> list[str]:
    """A command on lines that can be copied as they are: each but the last ends with a backslash."""
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if lines and len(lines[-1]) + 1 + len(word) + 2 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word if not lines else f"  {word}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _sum(outcomes: list[Outcome], *, is_all_shown: bool) -> str:
    """One line: how many of what."""
    counts = Counter(finding.problem.level for finding in worst_first(outcomes))
    parts = [_number(counts[level], level) for level in LEVELS if counts[level]]
    failed, skipped = (sum(outcome.result == result for outcome in outcomes) for result in (FAILED, SKIPPED))
    made = f"{len(outcomes) - skipped} checks"
    if exit_code(outcomes) == 0:
        return (
            f"healthy: {made}"
            + (f", {parts[0]}" if parts else "")
            + ("" if is_all_shown or not parts else " (--verbose)")
        )
    if failed:
        parts.append(f"{_number(failed, 'check')} failed")
    return f"{', '.join(parts)}; {made}" + (f", {skipped} skipped" if skipped else "")


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
