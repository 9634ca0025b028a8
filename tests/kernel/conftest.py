"""Which of the tests here run where: on the kernel's datapath all but those that boot a machine which has it."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what does not belong to the chosen datapath."""
    if collection_path.parent != _HERE or not collection_path.name.startswith("test_"):
        return None
    boots = collection_path.name == "test_virtual_machine.py"
    return True if boots == (config.getoption("--datapath") == "kernel") else None
