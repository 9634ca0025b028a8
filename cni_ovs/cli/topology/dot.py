"""The picture as text for Graphviz (https://graphviz.org/doc/info/lang.html)."""

from __future__ import annotations

from .graph import CONTAINER, HOST, TUNNEL, Graph, Node
from .model import UPLINK

_HEAD = """graph "cni-ovs" {
  graph [rankdir=LR, ranksep=1.5, fontname="Helvetica"]
  node [shape=box, style=filled, fillcolor=white, fontname="Helvetica", fontsize=11]
  edge [fontname="Helvetica", fontsize=9]
"""
_STYLES = {
    CONTAINER: 'style="filled,rounded", fillcolor="#eaf4e6", color="#3c7a34"',
    UPLINK: 'penwidth=2, fillcolor="#fdf3df", color="#9a6200"',
    TUNNEL: 'style="filled,dashed", fillcolor="#f2ebf7", color="#6b4a8c"',
    HOST: 'fillcolor="#f2f2f2", color="#555555"',
}
_BRIDGE = 'penwidth=2, fillcolor="#dde9f5", color="#24588a"'


def dot(graph: Graph) -> str:
    """The whole picture, what is outside on the left and containers on the right."""
    text = _HEAD
    for name, lines in graph.bridges.items():
        text += _line(f"{_quoted(f'bridge {name}')} [label={_label(lines)}, {_BRIDGE}]")
    for number, node in enumerate((*graph.outside, *graph.containers)):
        text += _node(f'"node {number}"', node)
    for patch in graph.patches:
        (bridge, port, vlan), (other_bridge, other_port, other_vlan) = patch.ends
        ends = f"{_quoted(f'bridge {bridge}')} -- {_quoted(f'bridge {other_bridge}')}"
        texts = [" ".join(filter(None, end)) for end in ((port, vlan), (other_port, other_vlan))]
        text += _line(f"{ends} [label={_label(texts)}, penwidth=2, constraint=false]")
    return text + "}\n"


def _node(identity: str, node: Node) -> str:
    lines = [node.title]
    for slot in node.slots:
        lines += [*slot.lines, *([slot.problem] if slot.problem else [])]
    is_bad = any(slot.problem for slot in node.slots)
    style = _STYLES.get(node.kind, "") + (', fontcolor="#b00020"' if is_bad else "")
    text = _line(f"{identity} [label={_label(lines)}, {style.lstrip(', ')}]")
    for slot in node.slots:
        ends = [_quoted(f"bridge {slot.bridge}"), identity]
        if node.kind != CONTAINER:
            ends.reverse()
        label = _label([part for part in (slot.vlan, slot.port) if part])
        style = ', style=dashed, color="#6b4a8c"' if node.kind == TUNNEL else ""
        text += _line(f"{' -- '.join(ends)} [label={label}{style}]")
    return text


def _line(text: str) -> str:
    return f"  {text}\n"


def _quoted(text: str) -> str:
    """A text as an identifier: in it only the quote, and a backslash before it, mean something."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _label(lines: list[str]) -> str:
    """Texts as the lines of a label, in which backslashes and entities of HTML mean something too."""
    escaped = (line.replace("\\", "\\\\").replace("&", "&amp;").replace('"', '\\"') for line in lines)
    return '"' + "".join(f"{line}\\l" for line in escaped) + '"'
