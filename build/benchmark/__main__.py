"""What build/bench runs, in namespaces of its own: see there."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from build.benchmark import report
from build.benchmark.machine import LINUX_BRIDGE, OVS_BRIDGE, Machine
from build.benchmark.measures import Bench, say
from build.benchmark.plugins import PEERS, TOP, copy_ipam, copy_plugins, machine, versions
from build.benchmark.results import Results

MEASURES = ("attach", "rate", "memory", "calls")
DOCS = TOP / "docs"
PAGE, PICTURE, SAMPLES = DOCS / "performance.md", DOCS / "performance.png", DOCS / "performance.json"
# Seconds for each number of ports, after which a measure begins no further round: with thousands of ports everything
# takes long, and the whole must not.
ATTACH_LIMIT, RATE_LIMIT = 1200, 120


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="build/bench", description="measures the plugin beside its peers")
    parser.add_argument("--runs", type=int, help="runs of each plugin under each condition (default 40)")
    parser.add_argument("--ports", help="numbers of ports on the bridge beforehand (default 0,1000,4000)")
    parser.add_argument("--only", choices=MEASURES, action="append", help="this measure only; repeatable")
    parser.add_argument("--quick", action="store_true", help="few runs, 0 and 50 ports: shows that everything works")
    parser.add_argument("--dist", type=Path, default=TOP / "dist", help="folder of the frozen plugin (default dist)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw a picture, .png or .svg")
    parser.add_argument("--write-docs", action="store_true", help=f"write table, samples and picture into {PAGE.name}")
    parser.add_argument("--load", type=Path, metavar="FILE", help="no measuring: report an earlier --json")
    chosen = parser.parse_args()
    chosen.runs = chosen.runs or (3 if chosen.quick else 40)
    try:
        text = chosen.ports or ("0,50" if chosen.quick else "0,1000,4000")
        chosen.ports = sorted({int(number) for number in text.split(",")})
    except ValueError:
        parser.error(f"--ports takes numbers with commas between them, not {chosen.ports!r}")
    return chosen


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as plain values for JSON."""
    about: dict[str, Any] = {
        "date": str(datetime.date.today()),
        "machine": machine(),
        "versions": versions(chosen.dist),
        "settings": {"runs": chosen.runs, "ports": chosen.ports},
    }
    results = Results()
    wanted = chosen.only or MEASURES
    place = Machine()
    try:
        plugins = copy_plugins(chosen.dist, place.folder / "plugins", OVS_BRIDGE, place.remote, LINUX_BRIDGE)
        copy_ipam(place.folder / "ipam")
        about["left_out"] = [name for name in PEERS if name not in [plugin.name for plugin in plugins]]
        about["sizes"] = {plugin.name: plugin.bytes_on_disk() for plugin in plugins}
        bench = Bench(place, plugins, results)
        most = 0 if chosen.quick else 1000  # with more of them every round takes minutes
        warm_up = min(3, chosen.runs // 2)
        for ports in chosen.ports:
            say(f"{ports} ports: adding them")
            place.fill(ports)
            if "attach" in wanted:
                say(f"{ports} ports: one at a time")
                bench.attach(chosen.runs, warm_up, ATTACH_LIMIT)
                warm_up = 1
            if "rate" in wanted and ports <= most:
                say(f"{ports} ports: many at once")
                bench.rate(1 if chosen.quick else 6, 16 if chosen.quick else 64, 16, RATE_LIMIT)
            if "memory" in wanted:
                say(f"{ports} ports: memory")
                bench.memory(1 if chosen.quick else 3)
            if "calls" in wanted:
                say(f"{ports} ports: system calls")
                bench.calls(1 if chosen.quick else 2)
    finally:
        say("taking everything down")
        try:
            place.close()
        except (AssertionError, OSError, SubprocessError) as error:
            say(f"the kernel will see to it, with the namespaces: {error}")  # no reason to lose what was measured
    ours = {plugin.name for plugin in plugins if plugin.ours}
    return {**about, "ours": sorted(ours), "cells": results.as_json()}


def main() -> int:
    """Measures and reports; 1 when our own plugin failed."""
    chosen = options()
    measured = json.loads(chosen.load.read_text()) if chosen.load else measure(chosen)
    text = report.report(measured)
    print(text)
    samples = [chosen.json] if chosen.json else []
    pictures = [chosen.chart] if chosen.chart else []
    if chosen.write_docs:
        report.write_into(PAGE, text)
        samples.append(SAMPLES)
        pictures.append(PICTURE)
    for file in samples:
        file.write_text(_lines(measured))
    for file in pictures:
        from build.benchmark import chart  # noqa: PLC0415 - needs matplotlib, which is not there without a picture

        chart.draw(measured, file)
    failed = [cell for cell in Results.from_json(measured["cells"]).cells.values() if cell.failures]
    for cell in failed:
        condition = f"{cell.measure}, IPAM {cell.ipam}, {cell.ports} ports"
        say(f"{cell.plugin} failed {len(cell.failures)} times ({condition}): {cell.failures[0]}")
    return int(any(cell.plugin in measured["ours"] for cell in failed))


def _lines(measured: dict[str, Any]) -> str:
    """JSON with one line for each cell, so that it can be read and compared."""
    cells = ",\n".join(json.dumps(cell) for cell in measured["cells"])
    about = json.dumps({key: value for key, value in measured.items() if key != "cells"}, indent=1)
    return f'{about[:-2]},\n "cells": [\n{cells}\n]\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
