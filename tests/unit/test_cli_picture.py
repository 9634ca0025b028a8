"""Pictures of the topology: nothing is over anything else, and no text means more than its characters."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.cli.topology.dot import dot
from cni_ovs.cli.topology.graph import CONTAINER, HOST, OTHER, TUNNEL, Graph, Node, Patch, Slot
from cni_ovs.cli.topology.layout import Box, Drawing, Label, layout
from cni_ovs.cli.topology.model import UPLINK
from cni_ovs.cli.topology.svg import svg
from cni_ovs.cli.wording import short

SVG = "{http://www.w3.org/2000/svg}"
Rectangle = tuple[float, float, float, float]

HOSTILE = [
    "</text><script>alert(1)</script>",
    "]]> <!-- & &amp; &lt; &#27;",
    '"quotes" and \\ backslashes \\N \\',
    "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe \r\n\t\x00",
    "𝄞 ünïcödé 名前名前名前",
    "W" * 100000,
]


def slot(bridge: str, number: int, *, vlan: str = "VLAN 5", lines: int = 1, problem: str = "") -> Slot:
    texts = [f"eth{number}  10.1.0.{number}/24", *(f"fd00:10:20::{n:x}/64" for n in range(1, lines))]
    return Slot(bridge, vlan, f"cni{number:012x} ({number})", texts, problem)


def of_boxes(drawing: Drawing) -> list[Rectangle]:
    return [(box.x, box.y, box.x + box.width, box.y + box.height) for box in drawing.boxes]


def of_label(label: Label) -> Rectangle:
    left = label.x - (label.width if label.anchor == "end" else 0)
    return left, label.y - label.size * 0.8, left + label.width, label.y + label.size * 0.2


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether they have more in common than an edge."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def contains(outer: Rectangle, inner: Rectangle) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def assert_readable(drawing: Drawing) -> None:
    """Nothing is over anything else, and everything is on the page."""
    boxes = of_boxes(drawing)
    labels = [of_label(label) for label in drawing.labels]
    page = (0.0, 0.0, drawing.width, drawing.height)
    for one, other in itertools.combinations([*boxes, *labels], 2):
        assert not overlap(one, other), (one, other)
    for box, rectangle in zip(drawing.boxes, boxes, strict=True):
        for label in box.labels:
            assert contains(rectangle, of_label(label)), (box, label)
        for one, other in itertools.combinations(map(of_label, box.labels), 2):
            assert not overlap(one, other), box
    for path in drawing.paths:
        for (x1, y1), (x2, y2) in itertools.pairwise(path.points):
            assert x1 == x2 or y1 == y2, path
            line = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            thick = (line[0] + 0.1, line[1] - 0.1, line[2] - 0.1, line[3] + 0.1) if y1 == y2 else line
            thick = (line[0] - 0.1, line[1], line[2] + 0.1, line[3]) if x1 == x2 else thick
            assert not any(overlap(thick, rectangle) for rectangle in [*boxes, *labels]), (path, thick)
            assert contains(page, line)
    assert all(contains(page, rectangle) for rectangle in [*boxes, *labels])


def ends_at(drawing: Drawing, kind: str) -> list[tuple[Box, Box]]:
    """What the lines of a kind connect."""
    found = []
    for path in drawing.paths:
        if path.kind == kind:
            one, other = (
                next(box for box in drawing.boxes if x in (box.x, box.x + box.width) and box.y < y < box.y + box.height)
                for x, y in (path.points[0], path.points[-1])
            )
            found.append((one, other))
    return found


@pytest.mark.parametrize("count", [0, 1, 6, 200])
def test_two_bridges_with_a_patch_a_tunnel_an_uplink_and_containers_are_readable(count: int) -> None:
    containers = [
        Node(CONTAINER, f"pod default/web-{number}", [slot(f"br{number % 2}", number)]) for number in range(count)
    ]
    outside = [
        Node(UPLINK, "uplink eth0", [Slot("br0", "", "eth0 (1)", ["10 Gbit/s", "MTU 1500, up"])]),
        Node(TUNNEL, "vxlan to 192.0.2.1", [Slot("br1", "", "vx0 (2)", ["key 7"])]),
        Node(HOST, "host: br0", [Slot("br0", "", "br0", ["10.0.0.1/24"])]),
    ]
    patch = Patch((("br0", "to-br1", "VLAN 7"), ("br1", "to-br0", "")))
    graph = Graph({name: [name, "datapath netdev"] for name in ("br0", "br1")}, outside, containers, [patch])
    drawing = layout(graph)
    assert_readable(drawing)
    assert len(drawing.boxes) == 2 + 3 + count
    assert [(one.labels[0].text, other.labels[0].text) for one, other in ends_at(drawing, "patch")] == [("br0", "br1")]
    titles = {other.labels[0].text for _, other in ends_at(drawing, CONTAINER)}
    assert titles == {f"pod default/web-{number}" for number in range(count)}
    assert drawing.width < 1300


@given(st.integers(0, 2**48 - 1), st.integers(1, 65279))
def test_a_name_that_decides_how_wide_its_column_is_is_not_cut(digits: int, number: int) -> None:
    name = f"cni{digits:012x} ({number})"
    graph = Graph({"br0": ["br0"]}, [], [Node(CONTAINER, "web", [Slot("br0", "", name, [])])], [])
    assert name in {label.text for label in layout(graph).labels}


def test_a_picture_of_nothing_says_so() -> None:
    drawing = layout(Graph({}, [], [], []))
    assert_readable(drawing)
    assert [label.text for label in drawing.labels] == ["nothing to be shown"]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = [f"br{number}" for number in range(draw(st.integers(1, 5)))]
    numbers = itertools.count(1)
    text = st.sampled_from(["", "x", "VLAN 5", "trunk 7,20-29, native VLAN 5", *(short(text) for text in HOSTILE)])

    def some_slot(bridge: str) -> Slot:
        lines = draw(st.integers(0, 4))
        made = slot(bridge, next(numbers), vlan=draw(text), lines=lines, problem=draw(text))
        return Slot(made.bridge, made.vlan, made.port, made.lines if lines else [], made.problem)

    bridges = st.sampled_from(names)
    containers = [
        Node(CONTAINER, draw(text), [some_slot(draw(bridges)) for _ in range(draw(st.integers(1, 4)))])
        for _ in range(draw(st.integers(0, 8)))
    ]
    outside = []
    for _ in range(draw(st.integers(0, 6))):
        bridge = draw(bridges)
        slots = [some_slot(bridge) for _ in range(draw(st.integers(1, 3)))]
        outside.append(Node(draw(st.sampled_from([UPLINK, TUNNEL, HOST, OTHER])), draw(text), slots))
    patches = [
        Patch(((draw(bridges), f"patch{number}", draw(text)), (draw(bridges), f"back{number}", draw(text))))
        for number in range(draw(st.integers(0, 5)))
    ]
    return Graph({name: [draw(text) or name, "datapath netdev"] for name in names}, outside, containers, patches)


@given(graphs())
def test_nothing_is_over_anything_else_whatever_hangs_where(graph: Graph) -> None:
    drawing = layout(graph)
    assert_readable(drawing)
    slots = [slot for node in (*graph.outside, *graph.containers) for slot in node.slots]
    assert len(drawing.paths) == len(slots) + len(graph.patches)
    for kind in (UPLINK, TUNNEL, HOST, CONTAINER, "patch"):
        for one, other in ends_at(drawing, kind):
            assert "bridge" in (one.kind, other.kind)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_a_text_in_svg_and_in_dot(text: str) -> None:
    harmless = short(text)
    node = Node(CONTAINER, harmless, [Slot(text, harmless, harmless, [harmless], harmless)])
    graph = Graph({text: [harmless]}, [], [node], [])

    written = svg(graph)
    root = Xml.fromstring(written)
    assert {element.tag for element in root.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "title", "rect", "g", "polyline", "text")
    }
    assert written.replace("\n", "").isprintable()
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert any(title and harmless in title for title in titles)

    quoted = r'"(?:[^"\\]|\\.)*"'
    attributes = rf"\[(?:\w+=(?:{quoted}|\w+)(?:, )?)+\]"
    line = re.compile(rf"  {quoted}(?: -- {quoted})? {attributes}", re.DOTALL)
    if text.isprintable():
        lines = dot(graph).splitlines()[4:-1]
        assert len(lines) == 3
        assert all(line.fullmatch(found) for found in lines), lines


def test_labels_of_dot_do_not_use_the_escapes_and_entities_of_graphviz() -> None:
    graph = Graph({"br0": [r"\N & \G", 'a "quoted" text']}, [], [], [])
    assert r'label="\\N &amp; \\G\la \"quoted\" text\l"' in dot(graph)
