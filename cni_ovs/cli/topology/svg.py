"""The picture as SVG, drawn here: Graphviz is not on every node."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

from .graph import CONTAINER, HOST, OTHER, TUNNEL, Graph
from .layout import BRIDGE, PATCH, Box, Drawing, Label, Path, layout
from .model import UPLINK

_FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
# Fill and stroke, dark enough on paper; kinds also differ in the form of their box and line.
_COLOURS = {
    BRIDGE: ("#dde9f5", "#24588a"),
    CONTAINER: ("#eaf4e6", "#3c7a34"),
    UPLINK: ("#fdf3df", "#9a6200"),
    TUNNEL: ("#f2ebf7", "#6b4a8c"),
    HOST: ("#f2f2f2", "#555555"),
    OTHER: ("#ffffff", "#555555"),
    PATCH: ("none", "#24588a"),
}
_BAD = "#b00020"
_ROUND = {CONTAINER: "8", BRIDGE: "3"}
_DASHES = {TUNNEL: "6 3"}
_WIDTHS = {BRIDGE: "2", UPLINK: "2", PATCH: "2"}
_TEXTS = {"port": "#555555", "problem": _BAD}


def svg(graph: Graph) -> str:
    """The whole picture, an XML document."""
    drawing = layout(graph)
    root = Xml.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    for name, value in (("width", drawing.width), ("height", drawing.height)):
        root.set(name, _number(value))
    root.set("viewBox", f"0 0 {_number(drawing.width)} {_number(drawing.height)}")
    root.set("font-family", _FONT)
    Xml.SubElement(root, "title").text = "Open vSwitch: bridges, and what hangs on them"
    Xml.SubElement(root, "rect", width="100%", height="100%", fill="#ffffff")
    _fill(root, drawing)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _fill(root: Xml.Element, drawing: Drawing) -> None:
    for path in drawing.paths:
        _path(root, path)
    for box in drawing.boxes:
        _box(root, box)
    for label in drawing.labels:
        _text(root, label)


def _path(parent: Xml.Element, path: Path) -> None:
    points = " ".join(f"{_number(x)},{_number(y)}" for x, y in path.points)
    line = Xml.SubElement(parent, "polyline", points=points, fill="none")
    line.set("stroke", _BAD if path.is_bad else _COLOURS[path.kind][1])
    line.set("stroke-width", _WIDTHS.get(path.kind, "1.5"))
    line.set("stroke-linejoin", "round")
    if path.kind in _DASHES:
        line.set("stroke-dasharray", _DASHES[path.kind])


def _box(parent: Xml.Element, box: Box) -> None:
    group = Xml.SubElement(parent, "g")
    Xml.SubElement(group, "title").text = box.tooltip
    fill, stroke = _COLOURS[box.kind]
    size = {name: _number(getattr(box, name)) for name in ("x", "y", "width", "height")}
    rectangle = Xml.SubElement(group, "rect", size, rx=_ROUND.get(box.kind, "0"), fill=fill)
    rectangle.set("stroke", _BAD if box.is_bad else stroke)
    rectangle.set("stroke-width", _WIDTHS.get(box.kind, "1.2"))
    if box.kind in _DASHES or box.is_bad:
        rectangle.set("stroke-dasharray", _DASHES.get(box.kind, "4 2"))
    for label in box.labels:
        _text(group, label)


def _text(parent: Xml.Element, label: Label) -> None:
    text = Xml.SubElement(parent, "text", x=_number(label.x), y=_number(label.y))
    text.set("font-size", _number(label.size))
    text.set("fill", _TEXTS.get(label.style, "#111111"))
    if label.style in ("title", "vlan"):
        text.set("font-weight", "bold")
    if label.anchor != "start":
        text.set("text-anchor", label.anchor)
    text.text = label.text


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
