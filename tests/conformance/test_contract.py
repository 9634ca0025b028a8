"""docs/conformance.md and the tests speak of the same points."""

from __future__ import annotations

import re

from tests.support.plugin import REPOSITORY

MARKER = re.compile(r"mark\.contract\(([\d, ]+)\)")
POINT = re.compile(r"^(\d+)\. ", re.MULTILINE)


def test_every_point_of_the_page_has_a_test_and_every_test_a_point() -> None:
    page = (REPOSITORY / "docs/conformance.md").read_text()
    documented = [int(number) for number in POINT.findall(page)]
    assert documented == list(range(1, len(documented) + 1))
    tested = {
        int(number)
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for marker in MARKER.findall(path.read_text())
        for number in marker.split(",")
        if number.strip()
    }
    assert tested == set(documented)
