"""docs/faults.md: what the runtime sees of each fault, how long it takes, what is left. `--write-docs` writes it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fault.catalogue import FAULTS, Fault, Scene
from tests.support.node import Node
from tests.support.plugin import REPOSITORY, Outcome
from tests.support.processes import wait_for

PAGE = REPOSITORY / "docs/faults.md"
HEADINGS = "| command | port | what the runtime sees | left | seconds |\n| --- | --- | --- | --- | --- |"
KINDS = ("veth", "internal")
TITLES = list(dict.fromkeys(fault.title for fault in FAULTS))


@dataclass
class Row:
    """One line of the table."""

    command: str
    kinds: str
    seen: str
    left: str
    seconds: float

    def __str__(self) -> str:
        """Without the time, which is another one in each run."""
        return f"| {self.command} | {self.kinds} | {self.seen} | {self.left} |"


_WRITTEN: dict[str, list[Row]] = {}


@pytest.fixture(scope="module", autouse=True)
def _page(request: pytest.FixtureRequest) -> Iterator[None]:
    """Writes the page after the last test, if that is asked for."""
    yield
    if request.config.getoption("--write-docs") and len(_WRITTEN) == len(TITLES):
        tables = [
            f"## What happens when {title}\n\n{HEADINGS}\n" + "".join(f"{row} {row.seconds:.1f} |\n" for row in rows)
            for title, rows in _WRITTEN.items()
        ]
        start = PAGE.read_text().partition("\n## What happens when")[0].rstrip("\n")
        PAGE.write_text(f"{start}\n\n" + "\n".join(tables))


def _seen(scene: Scene, outcome: Outcome) -> str:
    if outcome.exit_code == 0:
        return "success"
    error = outcome.error()
    text = f"{error['code']}: {scene.general(error['msg'])}"
    if error.get("details"):
        text += f" ({scene.general(error['details'])})"
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "\\<")


def _left(node: Node) -> str:
    """The kinds of things that are left. ovs-vswitchd removes its devices some time after their rows."""
    with contextlib.suppress(AssertionError):
        wait_for("there is no device", lambda: not any("device" in text for text in node.leftovers()), timeout=2)
    names = {"host": "device", "interface": "row", "port": "row", "notes": "note"}
    kinds = sorted({names.get(text.split()[0], text.split()[0]) for text in node.leftovers()})
    return ", ".join(kinds) or "nothing"


def _run(node: Node, fault: Fault, command: str, kind: str) -> Row:
    scene = Scene(node, kind)
    pod = scene.pod
    if command != "ADD":
        pod.add().ok()
    node.openvswitch.vsctl("set", "Open_vSwitch", ".", f"external_ids:settled={pod.container_id}")
    with fault.enter(scene):
        outcome = scene.run(command)
    timeout = pod.config["timeout"]
    assert outcome.seconds < timeout + 1, f"{outcome.seconds} s with a timeout of {timeout}"
    if scene.kept:
        left = scene.kept
    elif command in ("CHECK", "STATUS"):
        left = "–"
    elif command == "ADD" and outcome.exit_code == 0:
        check = pod.check()
        left = "the attachment" if check.exit_code == 0 else f"the attachment, and CHECK says {check.error()['code']}"
    else:
        left = _left(node)
    seen = _seen(scene, outcome)
    pod.delete().silent()
    node.assert_nothing_left()
    return Row(command, kind, seen, left, outcome.seconds)


def _merged(rows: list[Row]) -> list[Row]:
    """One row for both kinds of ports, where they do not differ."""
    first, second = rows
    if str(first) == str(second).replace("| internal |", "| veth |", 1):
        return [Row(first.command, "both", first.seen, first.left, max(first.seconds, second.seconds))]
    return rows


@pytest.mark.one_target
@pytest.mark.userspace
@pytest.mark.timeout(300)
@pytest.mark.parametrize("title", TITLES)
def test_it_is_as_the_page_says(private_node: Node, request: pytest.FixtureRequest, title: str) -> None:
    """Unless `--whole` is given: of ADD and DEL, with one kind of port, each with every other fault."""
    writing = request.config.getoption("--write-docs")
    everything = writing or request.config.getoption("--whole")
    kinds = KINDS if everything else KINDS[TITLES.index(title) % 2 :][:1]
    rows = [
        [_run(private_node, fault, command, kind) for kind in kinds]
        for fault in FAULTS
        if fault.title == title
        for command in fault.commands
        if everything or command in ("ADD", "DEL")
    ]
    if writing:
        _WRITTEN[title] = [row for of_command in rows for row in _merged(of_command)]
        return
    section = PAGE.read_text().partition(f"## What happens when {title}\n")[2].partition("\n## ")[0]
    written = re.findall(r"^(\| [A-Z]+ \|.*\|) [0-9.]+ \|$", section, re.MULTILINE)
    for kind in kinds:
        expected = [line.replace("| both |", f"| {kind} |", 1) for line in written]
        expected = [line for line in expected if line.split(" | ")[1] == kind]
        if not everything:
            expected = [line for line in expected if line.startswith(("| ADD ", "| DEL "))]
        assert [str(row) for of_command in rows for row in of_command if row.kinds == kind] == expected
