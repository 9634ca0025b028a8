"""`cni-ovs schema`: what it prints is what is published, and is good for what a person writes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.support.cli import PYTHON
from tests.support.plugin import PATH, REPOSITORY
from tests.support.processes import run


def printed(*words: str) -> Any:
    environment = {"PATH": PATH, "PYTHONPATH": str(REPOSITORY)}
    return json.loads(run([PYTHON, "-m", "cni_ovs.cli", "schema", *words], env=environment).stdout)


def test_the_published_schema_is_what_the_command_prints() -> None:
    assert printed() == json.loads((REPOSITORY / "docs/network-configuration.schema.json").read_text())


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").glob("*.conflist")), ids=lambda path: path.name)
def test_every_example_is_a_list_of_the_schema(path: Any) -> None:
    jsonschema.Draft202012Validator(printed("--list")).validate(json.loads(path.read_text()))
