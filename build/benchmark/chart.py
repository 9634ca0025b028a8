"""The results as a picture: a chart for each thing that was measured."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from build.benchmark.results import Cell, Results

# Okabe and Ito's colours, which everybody can tell apart; the shapes tell the same without any colour.
STYLES = {
    "ovs, installed": ("#0072B2", "o"),
    "ovs, copied": ("#56B4E9", "s"),
    "ovs-cni": ("#D55E00", "^"),
    "bridge": ("#999999", "D"),
}
MS, MB = 1e3, 1e-6


def draw(measured: dict[str, Any], file: Path) -> None:
    """Draws what build/bench wrote as JSON; the file's name ends in .svg or .png."""
    # The font comes with matplotlib, so the same results give the same picture; the salt is for the names in an .svg.
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "cni-ovs"})
    results = Results.from_json(measured["cells"])
    plugins = list(measured["sizes"])
    charts = [
        ("ADD (ms)", "attach", "add", MS, True),
        ("DEL (ms)", "attach", "delete", MS, True),
        ("start of ADD to the first answered ping (ms)", "attach", "ping", MS, True),
        ("CPU time of ADD (ms)", "attach", "add_cpu", MS, False),
        ("16 at once: ADDs per second (more is better)", "rate", "add", 1, False),
        ("16 at once: DELs per second (more is better)", "rate", "delete", 1, False),
        ("peak memory of ADD, largest process (MB)", "memory", "add", MB, False),
        ("system calls of ADD", "calls", "system_calls", 1, False),
    ]
    shown = [chart for chart in charts if results.of(chart[1], plugins)]
    lines = (len(shown) + 1) // 2
    figure = Figure(figsize=(10, 0.7 + 2.2 * lines), layout="constrained", facecolor="white")
    places = figure.subplots(lines, 2, squeeze=False).flatten()
    for axes, (title, measure, name, unit, logarithmic) in zip(places, shown, strict=False):
        _chart(axes, results.of(measure, plugins), name, unit)
        axes.set_title(title, fontsize=9, loc="left")
        if logarithmic:
            axes.set_xscale("log")
            least, most = axes.get_xlim()
            steps = (1, 2, 5) if most > 20 * least else (1, 2, 3, 5)
            axes.xaxis.set_major_locator(FixedLocator([step * 10**power for power in range(5) for step in steps]))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.set_xlim(left=0)
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    if file.suffix == ".svg":
        figure.savefig(file, metadata={"Date": None})
        return
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    with Image.open(drawn) as picture:  # a picture with few colours needs no more than a palette: a third of the bytes
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(file, format="png", optimize=True)


def _chart(axes: Axes, cells: Sequence[Cell], name: str, unit: float) -> None:
    """A line for each condition, on it a mark for each plugin: the median, and from the 10th to the 90th percentile."""
    conditions = list(dict.fromkeys((cell.ports, cell.ipam) for cell in cells))
    for plugin, (colour, shape) in STYLES.items():
        of_plugin = [cell for cell in cells if cell.plugin == plugin and cell.samples.get(name)]
        heights = [conditions.index((cell.ports, cell.ipam)) for cell in of_plugin]
        medians = [(cell.median(name) or 0) * unit for cell in of_plugin]
        axes.plot(medians, heights, linestyle="", marker=shape, color=colour, markersize=6, label=plugin, zorder=3)
        for cell, height in zip(of_plugin, heights, strict=True):
            samples = cell.samples[name]
            cuts = quantiles(samples, n=10, method="inclusive") if len(samples) > 1 else samples
            axes.plot([cuts[0] * unit, cuts[-1] * unit], [height, height], color=colour, linewidth=1.5, alpha=0.6)
    axes.set_yticks(range(len(conditions)), [f"{ports:,} ports, {_ipam(ipam)}" for ports, ipam in conditions])
    axes.invert_yaxis()
    axes.margins(y=0.12)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=2, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _ipam(name: str) -> str:
    return "no IPAM" if name == "none" else name
