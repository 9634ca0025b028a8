"""The doctor's parts that need no machine: carrying out checks, and how findings and commands are told."""

from __future__ import annotations

import re
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.cli.database import Port
from cni_ovs.cli.doctor import checks, diagnosis, paths, problems
from cni_ovs.cli.doctor.examination import Check, examine, exit_code, worst_first
from cni_ovs.cli.doctor.machine import Machine
from cni_ovs.cli.doctor.problems import FAULT, NOTE, WARNING, Finding, Problem, Skip

PAGE = Path(__file__).resolve().parents[2] / "docs/doctor.md"
LIST = re.compile(r"^## .*\Z", re.MULTILINE | re.DOTALL)  # of problems, by check, behind the introduction

A_FAULT = Problem("a_fault", FAULT, "{what} is broken", "it was dropped", "mend it:", "mend {what} {words}")
A_WARNING = Problem("a_warning", WARNING, "{what} creaks", "it is old", "oil it")
A_NOTE = Problem("a_note", NOTE, "{what} is blue", "it was painted")


def finds_all(machine: Machine) -> Iterator[Finding]:
    yield from (problem.found(what="it", words=[]) for problem in (A_NOTE, A_WARNING, A_FAULT))


def finds_and_fails(machine: Machine) -> Iterator[Finding]:
    yield A_WARNING.found(what="it")
    raise RuntimeError("and then \x1b[2J")


def skips(machine: Machine) -> Iterator[Finding]:
    yield from ()
    raise Skip("no time")


def ends_it_all(machine: Machine) -> Iterator[Finding]:
    yield from ()
    raise SystemExit(0)


def is_well(machine: Machine) -> Iterator[Finding]:
    yield from ()


def check(look: object, **scope: bool) -> Check:
    return Check(getattr(look, "__name__", ""), "it", look, (A_FAULT, A_WARNING, A_NOTE), **scope)  # type: ignore[arg-type] # each has the form


def registered() -> list[Problem]:
    return [problem for check in checks.CHECKS for problem in check.problems]


def test_whatever_happens_in_a_check_the_others_are_made() -> None:
    made = examine([check(look) for look in (finds_and_fails, ends_it_all, skips, finds_all, is_well)], Machine())
    assert [outcome.result for outcome in made] == ["failed", "failed", "skipped", "fault", "ok"]
    assert [len(outcome.findings) for outcome in made] == [1, 0, 0, 3, 0]
    assert made[0].reason == "RuntimeError: and then \\x1b[2J" and made[2].reason == "no time"


def test_a_check_that_hangs_is_left_behind_with_what_it_has_found() -> None:
    end = threading.Event()

    def hangs(machine: Machine) -> Iterator[Finding]:
        yield A_WARNING.found(what="it")
        end.wait(10)

    start = time.monotonic()
    made = examine([check(hangs), check(is_well)], Machine(), seconds=0.2)
    end.set()
    assert time.monotonic() - start < 2
    assert [outcome.result for outcome in made] == ["failed", "ok"]
    assert len(made[0].findings) == 1 and "0.2 s" in made[0].reason


@pytest.mark.parametrize(
    ("looks", "code"),
    [
        ((is_well, skips), 0),
        ((finds_and_fails,), 1),
        ((finds_all, finds_and_fails), 4),
        ((is_well,), 0),
    ],
)
def test_the_exit_code_tells_the_worst(looks: tuple[object, ...], code: int) -> None:
    assert exit_code(examine([check(look) for look in looks], Machine())) == code


def test_findings_are_told_worst_first() -> None:
    made = examine([check(finds_all), check(finds_all)], Machine())
    assert [finding.problem.level for finding in worst_first(made)] == [FAULT] * 2 + [WARNING] * 2 + [NOTE] * 2


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ((["a"], []), []),
        ((["a", "b"], ["b", "c"]), ["b is broken"]),
        ((["a"], ["a"]), ["a is broken"]),
        (([], ["a"]), []),
    ],
)
def test_what_may_pass_is_told_if_it_is_found_twice(looks: tuple[list[str], list[str]], told: list[str]) -> None:
    """And the second look is at a machine of which nothing is remembered."""
    machines: list[Machine] = []

    def looks_again(machine: Machine) -> Iterator[Finding]:
        machines.append(machine)
        yield from (A_FAULT.found(what=what, words=[], count=len(machines)) for what in looks[len(machines) - 1])

    machine = Machine(probe=True)
    [outcome] = examine([check(looks_again, may_pass=True)], machine, pause=0.0)
    assert [finding.message for finding in outcome.findings] == told
    assert outcome.result == ("fault" if told else "ok")
    if len(machines) == 2:
        assert machines[1].probe and machines[1]._known is not machine._known


def test_what_is_a_note_is_not_looked_for_again() -> None:
    def is_blue(machine: Machine) -> Iterator[Finding]:
        yield A_NOTE.found(what="it")

    start = time.monotonic()
    [outcome] = examine([check(is_blue, may_pass=True)], Machine(), pause=5)
    assert outcome.result == "note" and time.monotonic() - start < 1


def test_a_target_chooses_the_checks() -> None:
    every = [check(is_well), check(is_well, of_machine=False), check(is_well, of_target=False)]
    assert len(examine(every, Machine())) == 2


@given(st.text(), st.lists(st.text(min_size=1)))
def test_a_command_has_its_words_quoted_and_cannot_steer_a_terminal(what: str, words: list[str]) -> None:
    finding = A_FAULT.found(what=what, words=words)
    assert finding.message.isprintable()
    if finding.command:
        assert finding.command.isprintable()
        assert shlex.split(finding.command) == ["mend", what, *words]


@given(st.lists(st.text("ab '\"\\$", min_size=1, max_size=30), min_size=1), st.integers(20, 120))
def test_a_command_on_several_lines_is_the_same_command(words: list[str], width: int) -> None:
    lines = diagnosis._typed(shlex.join(words), width)
    assert shlex.split("\n".join(lines).replace("\\\n", " ")) == words
    assert all(len(line) <= width or len(shlex.split(line.removesuffix("\\"))) == 1 for line in lines)


def port(**columns: object) -> Port:
    values = {"tag": None, "trunks": [], "vlan_mode": None, **columns}
    return Port("", "", values["tag"], values["trunks"], [], values["vlan_mode"], None, {}, {}, None, [])  # type: ignore[arg-type] # so it is


@pytest.mark.parametrize(
    ("columns", "vlans"),
    [
        ({}, None),
        ({"tag": 5}, {5}),
        ({"tag": 5, "vlan_mode": "dot1q-tunnel"}, {5}),
        ({"trunks": [1, 2]}, {1, 2}),
        ({"tag": 5, "vlan_mode": "native-untagged"}, None),
        ({"tag": 5, "trunks": [1], "vlan_mode": "native-tagged"}, {1, 5}),
        ({"vlan_mode": "access"}, {0}),
    ],
)
def test_the_vlans_of_a_port_are_those_of_its_mode(columns: dict[str, object], vlans: set[int] | None) -> None:
    assert paths.carried(port(**columns)) == vlans


def test_every_problem_is_that_of_one_check_and_says_what_to_do() -> None:
    names = [problem.name for problem in registered()]
    assert len(names) == len(set(names))
    modules = [value for value in vars(checks).values() if hasattr(value, "CHECKS")]
    declared = {value.name for module in modules for value in vars(module).values() if isinstance(value, Problem)}
    assert declared == set(names)
    assert [problem.name for problem in registered() if not problem.remedy and not problem.command] == []
    assert all(problem.level in problems.LEVELS and problem.cause for problem in registered())


def described(check: Check) -> str:
    """What the page says of a check, and of what it can find."""
    text = f"## `{check.name}`: {check.about}\n"
    for problem in check.problems:
        level, message, cause, to_do = problem.documented()
        text += f"\n**`{problem.name}`**, {level}: {message}\n\n- why: {cause}\n- to do: {to_do}\n"
    return text


def test_the_documentation_has_every_problem(request: pytest.FixtureRequest) -> None:
    """With --write-docs it is written."""
    found, page = "\n".join(map(described, checks.CHECKS)), PAGE.read_text()
    if request.config.getoption("--write-docs"):
        page = LIST.sub("", page).rstrip() + "\n\n" + found
        PAGE.write_text(page)
    assert page.endswith(f"\n\n{found}"), "run this test with --write-docs"
