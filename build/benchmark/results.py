"""What was measured: cells, each with its samples and failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Key = tuple[str, str, int, str]  # measure, IPAM, ports already on the bridge, plugin


@dataclass
class Cell:
    """The samples of one plugin under one condition, by the name of what was measured; times are in seconds."""

    measure: str
    ipam: str
    ports: int
    plugin: str
    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, **values: float) -> None:
        """Adds one sample to each of these."""
        for name, value in values.items():
            self.samples.setdefault(name, []).append(round(value, 6))

    def median(self, name: str) -> float | None:
        """The median of the samples, None when there are none."""
        samples = self.samples.get(name)
        return median(samples) if samples else None


class Results:
    """Every cell of a run."""

    def __init__(self) -> None:
        """Nothing is measured yet."""
        self.cells: dict[Key, Cell] = {}

    def cell(self, measure: str, ipam: str, ports: int, plugin: str) -> Cell:
        """The cell; a new one is empty."""
        key = (measure, ipam, ports, plugin)
        return self.cells.setdefault(key, Cell(*key))

    def of(self, measure: str, plugins: Sequence[str]) -> list[Cell]:
        """All cells of one measure, by ports, IPAM and plugin, the latter in the order given."""
        cells = [cell for cell in self.cells.values() if cell.measure == measure]
        return sorted(cells, key=lambda cell: (cell.ports, cell.ipam != "none", plugins.index(cell.plugin)))

    def ratio(self, cell: Cell, name: str, to: str = "ovs-cni") -> float | None:
        """The median over that of another plugin under the same condition in the same run."""
        other = self.cells.get((cell.measure, cell.ipam, cell.ports, to))
        ours, theirs = cell.median(name), other.median(name) if other else None
        return ours / theirs if ours is not None and theirs else None

    @classmethod
    def from_json(cls, cells: Iterable[dict[str, Any]]) -> Results:
        """What `as_json` made."""
        results = cls()
        for cell in (Cell(**values) for values in cells):
            results.cells[cell.measure, cell.ipam, cell.ports, cell.plugin] = cell
        return results

    def as_json(self) -> list[dict[str, Any]]:
        """All of it, as plain values."""
        return [vars(cell) for cell in self.cells.values()]
