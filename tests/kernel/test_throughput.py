"""TCP over internal ports and over veth pairs, side by side."""

from __future__ import annotations

import statistics

import pytest

from tests.support.iperf import mbits
from tests.support.node import Node

ROUNDS, SECONDS = 5, 1


def test_internal_ports_beside_veth_pairs(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {
        kind: tuple(node.attached(interface_type=kind, ipam=node.host_local()) for _ in range(2))
        for kind in ("internal", "veth")
    }
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS):
        for kind in list(kinds)[:: 1 if number % 2 else -1]:
            one, other = kinds[kind]
            found[kind].append(mbits(one, other, seconds=SECONDS))
    internal, veth = (statistics.median(found[kind]) for kind in ("internal", "veth"))
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what the test is for
            f"\niperf3, {ROUNDS} times {SECONDS} s each, in turn, medians: internal {internal:.0f} Mbit/s,"
            f" veth {veth:.0f} Mbit/s, ratio {internal / veth:.2f}"
        )
    assert internal > 0 and veth > 0
