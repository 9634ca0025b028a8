"""The VLANs of a port, shown with frames: what docs/vlans.md says passes, passes, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.frames import DOT1AD, Frame, Tag, captured, send
from tests.support.node import Node
from tests.support.plugin import REPOSITORY, Attachment, Json
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

PAGE = (REPOSITORY / "docs/vlans.md").read_text()
SEVEN_AND_NINE: list[Json] = [{"id": 7}, {"minID": 9, "maxID": 9}]
PORTS: dict[str, Json] = {
    "neither `vlan` nor `trunk`": {},
    "`access`": {"vlan": 5},
    "`trunk`": {"trunk": SEVEN_AND_NINE},
    "`native-untagged`": {"vlan": 5, "trunk": SEVEN_AND_NINE},
    "`native-tagged`": {"vlan_mode": "native-tagged", "vlan": 5, "trunk": SEVEN_AND_NINE},
    "`dot1q-tunnel`": {"vlan_mode": "dot1q-tunnel", "vlan": 5},
    "`dot1q-tunnel` with `cvlans`": {"vlan_mode": "dot1q-tunnel", "vlan": 5, "cvlans": [{"id": 7}]},
}
KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


def _tags(cell: str) -> tuple[Tag, ...] | None:
    """The tags that a cell of the page means; None for a frame that does not arrive."""
    if cell == "–":
        return None
    names = [] if cell == "none" else cell.split(", ")
    return tuple(Tag(int(name[1:]), DOT1AD) if name[0] == "S" else Tag(int(name)) for name in names)


def _table(title: str) -> dict[str, dict[str, str]]:
    """For each kind of port what becomes of each frame, as the page has it."""
    lines = PAGE.partition(f"\n{title}:\n\n")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


OUT, INTO = _table("From the container"), _table("To the container")


@pytest.fixture
def limited(node: Node) -> Iterator[Node]:
    """A node whose Open vSwitch looks at two tags."""
    node.openvswitch.vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=2")
    yield node
    node.openvswitch.vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")


def _carried(
    node: Node, sender: Attachment, receiver: Attachment, cells: dict[str, str]
) -> dict[str, tuple[Tag, ...] | None]:
    """The tags with which each frame comes from one port to another, or None.

    After each another frame is sent that passes: what is not there before that one does not pass.
    """
    good = next(sent for sent, received in cells.items() if received != "–")
    found = {}
    with captured(receiver.sandbox, "net1", node.folder) as capture:
        for sent in cells:
            node.openvswitch.appctl("dpctl/del-flows")
            send(sender.sandbox, "net1", Frame(sent, _tags(sent) or ()))
            end = Frame(f"end of {sent}", _tags(good) or ())

            def ended(end: Frame = end) -> bool:
                # With vlan-limit=2, Open vSwitch 3.1 uses a flow that was made for two tags also for frames with one.
                node.openvswitch.appctl("dpctl/del-flows")
                send(sender.sandbox, "net1", end)
                return end.text in [frame.text for frame in capture.frames()]

            wait_for("a frame that passes has come", ended)
            tags = [frame.tags for frame in capture.frames() if frame.text == sent]
            assert len(tags) < 2, tags
            found[sent] = tags[0] if tags else None
    return found


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_these_frames_pass_and_no_others(limited: Node, port: str, kind: str) -> None:
    node = limited
    trunk = node.attached()
    pod = node.attached(interface_type=kind, **PORTS[port])
    assert _carried(node, pod, trunk, OUT[port]) == {sent: _tags(cell) for sent, cell in OUT[port].items()}
    assert _carried(node, trunk, pod, INTO[port]) == {sent: _tags(cell) for sent, cell in INTO[port].items()}
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left(keep=[trunk])


def test_the_page_has_every_mode() -> None:
    assert list(OUT) == list(INTO) == list(PORTS)


@pytest.mark.parametrize("limit", ["1", None, "many"])
def test_customer_vlans_that_open_vswitch_would_not_see_are_refused(limited: Node, limit: str | None) -> None:
    node = limited
    node.openvswitch.vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")
    if limit is not None:
        node.openvswitch.vsctl("set", "Open_vSwitch", ".", f"other_config:vlan-limit={limit}")
    error = node.attachment(**PORTS["`dot1q-tunnel` with `cvlans`"]).add().error(7)
    assert "'cvlans'" in error["msg"] and "other_config:vlan-limit=2" in error["details"]
    node.assert_nothing_left()


def test_check_says_which_vlans_are_missing(node: Node) -> None:
    pod = node.attached(vlan=5, trunk=SEVEN_AND_NINE)
    name = node.port(pod)["name"]
    pod.check().silent()
    node.openvswitch.vsctl("remove", "Port", name, "trunks", "9")
    error = pod.check().error(106)
    assert "trunks" in error["msg"] and "expected [7, 9], found [7]" in error["msg"]
    node.openvswitch.vsctl("set", "Port", name, "trunks=7,9", "vlan_mode=native-tagged")
    assert "expected native-untagged, found native-tagged" in pod.check().error(106)["msg"]
