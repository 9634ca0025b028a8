"""Where everything is in the picture: three columns, in which lines of a port are horizontal and nothing overlaps.

    what is outside | names | lanes of patch ports | bridges | names | containers | lanes of other bridges

A bridge is as high as what hangs on it, which is in rows beside it. A container at several bridges is beside the first
one; its other ports have an empty row beside theirs, and a lane on the right leads from there to the container. Patch
ports have rows on the left, and a lane leads from one to the other. Lengths are in pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.cells import cell_len

from .graph import Graph, Node, Slot

TITLE, TEXT, LABEL = 13.0, 11.5, 11.0  # sizes of fonts
BRIDGE, PATCH = "bridge", "patch"  # kinds of what is drawn, besides those of nodes
_MARGIN, _GAP, _PADDING, _LANE = 24.0, 12.0, 9.0, 12.0
_LINE = 15.0  # from one line of text to the next
_ROW = 36.0  # of an edge: a text above it and one below
_BETWEEN = 36.0  # bridges
_BOX = (130.0, 330.0)  # the narrowest and the widest
_NAMES = (90.0, 230.0)
_BAR = (120.0, 220.0)
_PROBLEM = 36  # characters of a line that says what is wrong
_ROUNDING = 0.01  # a width that was made of the text's own may be less by a few bits
_EVERY = 640.0  # so often a high bridge says its name
# How wide characters are in parts of the font's size: those of DejaVu Sans, which is wider than most.
_NARROW, _WIDE = frozenset("iljftrI.,:;'|!()[]/ "), frozenset("mwMW@%")


@dataclass(frozen=True)
class Label:
    """A text; `anchor` says which of its ends is at x ("start" or "end"), and y is its base line."""

    x: float
    y: float
    text: str
    size: float
    style: str = ""  # "title", "vlan", "port", "problem" or ""
    anchor: str = "start"

    @property
    def width(self) -> float:
        """How wide it is at most."""
        return width_of(self.text, self.size, bold=self.style in ("title", "vlan"))


@dataclass(frozen=True)
class Box:
    """A box with its texts; `tooltip` has what was cut."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    labels: list[Label]
    tooltip: str
    is_bad: bool = False


@dataclass(frozen=True)
class Path:
    """A line from point to point."""

    points: list[tuple[float, float]]
    kind: str
    is_bad: bool = False


@dataclass
class Drawing:
    """The whole picture."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)  # those of edges


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is at most."""
    parts = sum(
        0.42 if char in _NARROW else 1.0 if char in _WIDE else 0.78 if char.isupper() else 0.64 * cell_len(char)
        for char in text
    )
    return parts * size * (1.1 if bold else 1.0)


def fitting(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """A text, cut if it is wider."""
    if width_of(text, size, bold=bold) <= width + _ROUNDING:
        return text
    while text and width_of(text + "…", size, bold=bold) > width:
        text = text[:-1]
    return text + "…"


def _wrapped(text: str, width: float) -> list[str]:
    """A text in lines that are not wider; three at most."""
    lines = textwrap.wrap(text, _PROBLEM, max_lines=3, placeholder="…")
    return [fitting(line, width, TEXT) for line in lines]


def layout(graph: Graph) -> Drawing:
    """Where everything is."""
    return _Layout(graph).drawing


class _Layout:
    """Places one bridge after the other, from top to bottom, and the lanes at last."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._order = {name: number for number, name in enumerate(graph.bridges)}
        patch_lanes = len(graph.patches) + 1 if graph.patches else 0
        outside, containers = graph.outside, graph.containers
        ends = [" ".join(end[1:]) for patch in graph.patches for end in patch.ends]
        self._outside = _between((_box_width(node) for node in outside), _BOX) if outside else 0.0
        names = [_names_width(slot) for node in outside for slot in node.slots]
        names += [width_of(end, LABEL, bold=True) + 2 * _PADDING for end in ends]
        self._left_names = _between(names, _NAMES) if names else 0.0
        bars = (width_of(line, TITLE, bold=True) for lines in graph.bridges.values() for line in lines)
        self._bar = _between((width + 2 * _PADDING for width in bars), _BAR)
        self._right_names = _between((_names_width(slot) for node in containers for slot in node.slots), _NAMES)
        self._containers = _between((_box_width(node) for node in containers), _BOX) if containers else 0.0
        self._lanes_x = _MARGIN + self._outside + self._left_names
        self._bar_x = self._lanes_x + patch_lanes * _LANE
        self._names_x = self._bar_x + self._bar
        self._containers_x = self._names_x + (self._right_names if containers else 0.0)
        self._ends: dict[tuple[str, str], float] = {}  # where the row of a patch port is
        self._detours: list[tuple[float, Node, Slot]] = []  # with the row at the container
        self._passing: dict[tuple[str, str], float] = {}
        self.drawing = Drawing()
        self._draw()

    def _draw(self) -> None:
        if not self._graph.bridges:
            self._say("nothing to be shown")
            return
        y = _MARGIN
        for name, lines in self._graph.bridges.items():
            y = self._bridge(name, lines, y) + _BETWEEN
        self._draw_patches()
        lanes = self._draw_detours()
        drawing = self.drawing
        drawing.width = self._containers_x + self._containers + (lanes + 1) * _LANE * bool(lanes) + _MARGIN
        drawing.height = max(y - _BETWEEN, _MARGIN) + _MARGIN

    def _say(self, text: str) -> None:
        """The whole picture is a text."""
        label = Label(_MARGIN, _MARGIN + TITLE, text, TITLE, "title")
        self.drawing.labels.append(label)
        self.drawing.width, self.drawing.height = label.width + 2 * _MARGIN, TITLE + 2 * _MARGIN

    # Bridges, and what is beside them

    def _bridge(self, name: str, lines: list[str], top: float) -> float:
        """Place a bridge and its rows; returns where it ends."""
        earlier, later = self._patches_of(name)
        y = top + _PADDING
        for end in earlier:
            y = self._patch_row(end, y)
        for node in self._graph.outside:
            if node.slots[0].bridge == name:
                y = self._node(node, _MARGIN, self._outside, y, name) + _GAP
        left = y + len(later) * _ROW if later else y - _GAP
        y = top + _PADDING
        for node in self._graph.containers:
            bridges = sorted((slot.bridge for slot in node.slots), key=self._order.__getitem__)
            if bridges[0] == name:
                y = self._node(node, self._containers_x, self._containers, y, name) + _GAP
            else:
                for slot in node.slots:
                    if slot.bridge == name:
                        self._passing[name, slot.port] = y + _ROW / 2
                        y += _ROW + _GAP
        bottom = max(left, y - _GAP, top + len(lines) * _LINE + _PADDING) + _PADDING
        y = bottom - _PADDING / 2 - len(later) * _ROW
        for end in later:
            y = self._patch_row(end, y)
        self._bar_box(lines, top, bottom)
        return bottom

    def _patches_of(self, name: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        """The patch ports of a bridge: those that lead to bridges above it, and below it; the nearest outermost."""
        ways = [
            (self._order[there[0]] - self._order[name], here)
            for patch in self._graph.patches
            for here, there in (patch.ends, patch.ends[::-1])
            if here[0] == name
        ]
        ways.sort(key=lambda way: way[0])
        return [end for way, end in reversed(ways) if way < 0], [end for way, end in reversed(ways) if way >= 0]

    def _patch_row(self, end: tuple[str, str, str], y: float) -> float:
        bridge, port, vlan = end
        middle = y + _ROW / 2
        self._ends[bridge, port] = middle
        x, room = self._lanes_x - 2, self._left_names - _PADDING
        below = middle + (LABEL + 1 if vlan else LABEL / 3)
        if vlan:
            text = fitting(vlan, room, LABEL, bold=True)
            self.drawing.labels.append(Label(x, middle - 4, text, LABEL, "vlan", "end"))
        self.drawing.labels.append(Label(x, below, fitting(port, room, LABEL), LABEL, "port", "end"))
        return y + _ROW

    def _bar_box(self, lines: list[str], top: float, bottom: float) -> None:
        labels = []
        y = top
        while y == top or y + len(lines) * _LINE + 2 * _PADDING < bottom:
            for number, line in enumerate(lines):
                size, style = (TITLE, "title") if number == 0 else (TEXT, "")
                text = fitting(line, self._bar - 2 * _PADDING, size, bold=number == 0)
                labels.append(Label(self._bar_x + _PADDING, y + _PADDING + TITLE + number * _LINE, text, size, style))
            y += _EVERY
        box = Box(self._bar_x, top, self._bar, bottom - top, BRIDGE, labels, "\n".join(lines))
        self.drawing.boxes.append(box)

    def _node(self, node: Node, x: float, width: float, top: float, bridge: str) -> float:
        """Place a node and the edges to its bridge; returns where it ends."""
        room = width - 2 * _PADDING
        y = top + _PADDING + TITLE
        labels = [Label(x + _PADDING, y, fitting(node.title, room, TITLE, bold=True), TITLE, "title")]
        tooltip = [node.title]
        bottom = y
        for slot in sorted(node.slots, key=lambda slot: self._order[slot.bridge]):
            texts = [(fitting(line, room, TEXT), "") for line in slot.lines]
            texts += [(line, "problem") for line in _wrapped(slot.problem, room)]
            for number, (text, style) in enumerate(texts, 1):
                labels.append(Label(x + _PADDING, bottom + number * _LINE, text, TEXT, style))
            tooltip += [slot.port, slot.vlan, *slot.lines, slot.problem]
            middle = bottom + max(1, len(texts)) * _LINE / 2 + TEXT / 3
            bottom += max(len(texts) * _LINE, _ROW if len(node.slots) > 1 else 0)
            if slot.bridge != bridge:
                self._detours.append((middle, node, slot))
            elif len(node.slots) > 1:
                self._edge(node, slot, middle)
        bottom = max(bottom + _PADDING, top + _ROW)
        if len(node.slots) == 1:
            self._edge(node, node.slots[0], (top + bottom) / 2)
        is_bad = any(slot.problem for slot in node.slots)
        text = "\n".join(filter(None, tooltip))
        self.drawing.boxes.append(Box(x, top, width, bottom - top, node.kind, labels, text, is_bad))
        return bottom

    def _edge(self, node: Node, slot: Slot, y: float) -> None:
        """The line between a bridge and what is beside it, with the VLAN above and the port's name below."""
        is_outside = node in self._graph.outside
        x, end = (_MARGIN + self._outside, self._bar_x) if is_outside else (self._names_x, self._containers_x)
        self.drawing.paths.append(Path([(x, y), (end, y)], node.kind, bool(slot.problem)))
        self._names(slot, x, y, self._left_names if is_outside else self._right_names)

    def _names(self, slot: Slot, x: float, y: float, room: float) -> None:
        room -= 2 * _PADDING
        vlan, port = fitting(slot.vlan, room, LABEL, bold=True), fitting(slot.port, room, LABEL)
        if vlan:
            self.drawing.labels.append(Label(x + _PADDING, y - 4, vlan, LABEL, "vlan"))
        self.drawing.labels.append(Label(x + _PADDING, y + LABEL + 1, port, LABEL, "port"))

    # Lanes

    def _draw_patches(self) -> None:
        ways = [(self._ends[one[:2]], self._ends[other[:2]]) for one, other in (p.ends for p in self._graph.patches)]
        for (begin, end), lane in zip(ways, _lanes(ways), strict=True):
            x = self._bar_x - (lane + 1) * _LANE
            points = [(self._bar_x, begin), (x, begin), (x, end), (self._bar_x, end)]
            self.drawing.paths.append(Path(points, PATCH))

    def _draw_detours(self) -> int:
        """The lines of containers at several bridges; returns how many lanes they need."""
        ways = [(self._passing[slot.bridge, slot.port], end) for end, _, slot in self._detours]
        lanes = _lanes(ways)
        right = self._containers_x + self._containers
        for (begin, end), lane, (_, node, slot) in zip(ways, lanes, self._detours, strict=True):
            x = right + (lane + 1) * _LANE
            points = [(self._names_x, begin), (x, begin), (x, end), (right, end)]
            self.drawing.paths.append(Path(points, node.kind, bool(slot.problem)))
            self._names(slot, self._names_x, begin, self._right_names)
        return max(lanes, default=-1) + 1


def _lanes(ways: list[tuple[float, float]]) -> list[int]:
    """A lane for each way, so that no two that are beside each other have the same one; short ones are inside."""
    lanes: list[list[tuple[float, float]]] = []
    found = [0] * len(ways)
    for number in sorted(range(len(ways)), key=lambda number: abs(ways[number][1] - ways[number][0])):
        low, high = min(ways[number]) - 4, max(ways[number]) + 4
        lane = next((n for n, taken in enumerate(lanes) if all(high < a or b < low for a, b in taken)), len(lanes))
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append((low, high))
        found[number] = lane
    return found


def _between(widths: Iterable[float], limits: tuple[float, float]) -> float:
    """The widest, within limits."""
    return min(max([limits[0], *widths]), limits[1])


def _box_width(node: Node) -> float:
    texts = [text for slot in node.slots for text in (*slot.lines, slot.problem[:_PROBLEM])]
    widths = [width_of(node.title, TITLE, bold=True), *(width_of(text, TEXT) for text in texts)]
    return max(widths) + 2 * _PADDING


def _names_width(slot: Slot) -> float:
    return max(width_of(slot.vlan, LABEL, bold=True), width_of(slot.port, LABEL)) + 2 * _PADDING
