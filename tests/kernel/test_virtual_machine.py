"""Boots a virtual machine that has the kernel's datapath, and runs tests there: those beside this file, and others.

build/test tests/kernel            what the datapaths differ in; takes three to five minutes
build/test tests/kernel --whole    every test whose subject is what the plugin does to a node; takes an hour
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.support import virtual_machine

PART = (
    "tests/kernel",
    "tests/functional/test_devices.py::test_packets_pass_as_soon_as_add_has_returned",
    "tests/functional/test_devices.py::test_vlans_separate_and_the_same_vlan_connects",
    "tests/functional/test_devices.py::test_packets_of_the_full_mtu_pass_and_larger_ones_do_not",
    "tests/functional/test_devices.py::test_an_internal_port_keeps_its_name_and_has_the_asked_one_as_an_alternative",
    "tests/fault/test_reboot.py::test_new_attachments_work_beside_ports_of_before_the_reboot_and_remove_them",
    "tests/fault/test_stale_ports.py::test_a_stale_internal_port_and_its_address_go_when_ovs_vswitchd_has_made_a_new_device",
)
WHOLE = (
    "tests/kernel",
    *(f"tests/conformance/test_{name}.py" for name in ("add", "check", "del", "ipam_delegation", "status_gc")),
    "tests/functional",
    "tests/fault/test_reboot.py",
    "tests/fault/test_stale_ports.py",
    # Of the program's file, its texts and costs, and of what is in the database: no datapath makes a difference. Nor do
    # faults of the daemons; and how long a command may take then is no question to an emulated processor.
    *(f"--ignore-glob=tests/functional/test_{name}*" for name in ("bench", "budget", "container", "documentation")),
    *(f"--ignore-glob=tests/functional/test_{name}*" for name in ("install", "hostile_rows", "streams")),
)


@pytest.mark.timeout(5 * 3600)
def test_everything_passes_on_the_kernels_datapath(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = request.config.getoption("--whole")
    if virtual_machine.missing():
        pytest.skip(virtual_machine.missing() or "")
    pytest_there = (".venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", "--datapath=kernel", "-q", "-rfEs")
    outcome = virtual_machine.run(
        [
            *pytest_there,
            "--target=frozen",
            "--timeout=1200",  # for one test: an emulated processor is ten times as slow
            "--durations=15",
            "--junitxml=/mnt/results.xml",
            *(WHOLE if whole else PART),
        ],
        tmp_path,
        seconds=4 * 3600 if whole else 900,
    )
    with capsys.disabled():
        print(f"\n{outcome.output}")  # noqa: T201 - the other pytest's report is a part of ours
    assert outcome.exit_code == 0, outcome.console[-3000:]
    [suite] = ElementTree.parse(tmp_path / "results.xml").getroot()
    assert int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) >= len(PART), outcome.output
