"""Carrying out the doctor's checks: each on its own, bounded in time, whatever happens in it.

The doctor reads one thing after the other, while containers come and go and Open vSwitch is at work. So what a check
finds that may be of a moment is looked for once more, and only what is found twice is told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..output import plain
from .problems import FAILED, FAULT, LEVELS, NOTE, OK, SKIPPED, WARNING, Finding, Problem, Skip

if TYPE_CHECKING:
    from .machine import Machine

SECONDS = 10.0  # for one check; the longest that is well reads 4,000 ports, which takes half of it
PAUSE = 0.5  # seconds between two looks: of what lies between the steps of a DEL, each is over within some milliseconds
ORDER = (FAULT, FAILED, WARNING, NOTE, SKIPPED, OK)


@dataclass(frozen=True)
class Check:
    """Something that the doctor looks at.

    Attributes:
        name: for programs; it stays the same.
        about: what is looked at, for people.
        look: yields what it finds; Skip says why it cannot be made.
        problems: what it can find.
        of_machine: whether it is made without a TARGET.
        of_target: whether it is made with one.
        may_pass: whether what it finds may be so for a moment only, while somebody attaches or removes something.
    """

    name: str
    about: str
    look: Callable[[Machine], Iterable[Finding]]
    problems: tuple[Problem, ...]
    of_machine: bool = True
    of_target: bool = True
    may_pass: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a check has come to.

    Attributes:
        check: which one.
        result: OK, the level of the worst finding, SKIPPED or FAILED.
        reason: why it was skipped or failed; "" otherwise.
        findings: what it has found; also one that failed may have found something before.
        seconds: how long it took.
    """

    check: Check
    result: str
    reason: str
    findings: list[Finding]
    seconds: float


@dataclass
class _Work:
    """What the thread of a check leaves behind."""

    findings: list[Finding] = field(default_factory=list)
    error: BaseException | None = None


def examine(checks: Iterable[Check], machine: Machine, seconds: float = SECONDS, pause: float = PAUSE) -> list[Outcome]:
    """Make all checks that fit (with or without a target), one after the other; never raises.

    Each has a thread of its own: one that hangs is left behind, and so is the network namespace that it may be in.
    """
    wanted = [check for check in checks if (check.of_target if machine.target else check.of_machine)]
    outcomes = [_make(check, machine, seconds) for check in wanted]
    doubtful = [outcome for outcome in outcomes if outcome.check.may_pass and _is_bad(outcome)]
    if not doubtful:
        return outcomes
    time.sleep(pause)
    later = machine.later()
    sure = {outcome.check.name: _confirmed(outcome, _make(outcome.check, later, seconds)) for outcome in doubtful}
    return [sure.get(outcome.check.name, outcome) for outcome in outcomes]


def exit_code(outcomes: list[Outcome]) -> int:
    """0 healthy, 3 warnings, 4 faults; 1 if a check failed and there are no faults, so that nobody knows."""
    levels = {finding.problem.level for outcome in outcomes for finding in outcome.findings}
    if FAULT in levels:
        return 4
    if any(outcome.result == FAILED for outcome in outcomes):
        return 1
    return 3 if WARNING in levels else 0


def worst_first(outcomes: list[Outcome]) -> list[Finding]:
    """All findings, in the order of their levels, and otherwise in that of the checks."""
    found = [finding for outcome in outcomes for finding in outcome.findings]
    return sorted(found, key=lambda finding: LEVELS.index(finding.problem.level))


def _make(check: Check, machine: Machine, seconds: float) -> Outcome:
    work, start = _Work(), time.monotonic()
    thread = threading.Thread(target=_look, args=(check, machine, work), name=check.name, daemon=True)
    thread.start()
    thread.join(seconds)
    took = time.monotonic() - start
    findings = list(work.findings)
    if thread.is_alive():
        return Outcome(check, FAILED, f"it did not end within {seconds:g} s", findings, took)
    if isinstance(work.error, Skip):
        return Outcome(check, SKIPPED if not findings else _result(findings), str(work.error), findings, took)
    if work.error is not None:
        reason = plain(f"{type(work.error).__name__}: {work.error}", 300)
        return Outcome(check, FAILED, reason, findings, took)
    return Outcome(check, _result(findings), "", findings, took)


def _is_bad(outcome: Outcome) -> bool:
    return any(finding.problem.level != NOTE for finding in outcome.findings)


def _confirmed(first: Outcome, second: Outcome) -> Outcome:
    """The second look at something, with what the first one has found too."""
    known = [finding.identity for finding in first.findings]
    findings = [finding for finding in second.findings if finding.identity in known]
    result = second.result if second.result in (SKIPPED, FAILED) else _result(findings)
    return replace(second, findings=findings, result=result, seconds=first.seconds + second.seconds)


def _look(check: Check, machine: Machine, work: _Work) -> None:
    try:
        for finding in check.look(machine):
            work.findings.append(finding)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the other checks must be made
        work.error = error


def _result(findings: list[Finding]) -> str:
    return min((finding.problem.level for finding in findings), key=LEVELS.index, default=OK)
