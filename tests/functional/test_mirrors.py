"""Mirrors: a chain of `ovs` and one of the two plugins for mirrors, seen in Open vSwitch and with counted packets."""

from __future__ import annotations

import copy
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.runtime.chain import Chain
from tests.runtime.machine import install_plugin
from tests.support import ipam
from tests.support.frames import Frame, Tag, captured, send
from tests.support.installer import MIRROR_PLUGINS
from tests.support.node import Node
from tests.support.openvswitch import Row
from tests.support.plugin import Json
from tests.support.processes import run, wait_for

pytestmark = pytest.mark.one_target

PRODUCER, CONSUMER = MIRROR_PLUGINS
_SETS = ("select_src_port", "select_dst_port", "output_port")
BOTH = {"ingress": True, "egress": True}


class Mirroring:
    """Containers of one node, each attached to a chain."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._bin = node.folder / "cni-bin"
        install_plugin(node.plugin.target, self._bin)

    def chain(self, role: str | None = None, *mirrors: Json, **keys: Any) -> Chain:
        """A new container behind a veth; `keys` are those of `ovs`."""
        config = self.node.config()
        common = {"bridge": config["bridge"], "socket_file": config["socket_file"]}
        plugins: list[Json] = [{"type": "ovs", **common, **keys}]
        if role is not None:
            plugins.append({"type": role, **common, "mirrors": list(mirrors)})
        return Chain(
            {"cniVersion": "1.0.0", "name": config["name"], "plugins": plugins},
            self.node.host,
            self.node.sandbox(),
            cni_path=f"{self._bin}:{ipam.cni_path('1.0.0')}",
            environment={"TMPDIR": str(self.node.temporary)},
        )

    def added(self, *arguments: Any, **keys: Any) -> Chain:
        """The same, and it is attached."""
        chain = self.chain(*arguments, **keys)
        chain.add()
        return chain

    def port(self, chain: Chain) -> str:
        """The UUID of a container's port."""
        (row,) = [row for row in self.node.ports() if row["external_ids"]["contID"] == chain.container_id]
        return str(row["_uuid"])

    def rows(self) -> dict[str, Row]:
        """The mirrors of the bridge, by name."""
        bridge = self.node.openvswitch.row("Bridge", self.node.bridge)
        found = [row for row in self.node.openvswitch.rows("Mirror") if row["_uuid"] in _set(bridge["mirrors"])]
        return {row["name"]: {**row, **{key: _set(row[key]) for key in _SETS}} for row in found}


def _set(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture
def mirroring(node: Node) -> Mirroring:
    """For mirrors on a node."""
    return Mirroring(node)


def error_of(chain: Chain) -> str:
    """What ADD of a chain fails with."""
    with pytest.raises(AssertionError) as caught:
        chain.add()
    return str(caught.value)


@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize("directions", [{"ingress": True}, {"egress": True}, BOTH])
def test_every_packet_is_copied_once(mirroring: Mirroring, kind: str, directions: Json) -> None:
    node = mirroring.node
    consumer = mirroring.added(CONSUMER, {"name": "m"})
    producer = mirroring.added(PRODUCER, {"name": "m", **directions}, interface_type=kind)
    other = mirroring.added()
    with (
        captured(consumer.sandbox, "eth0", node.folder) as copies,
        captured(other.sandbox, "eth0", node.folder) as received,
    ):
        out = [Frame(f"out {number}") for number in range(50)]
        into = [Frame(f"into {number}") for number in range(50)]
        send(producer.sandbox, "eth0", *out)
        wait_for("the other has got all", lambda: len(received.frames()) == len(out))
        send(other.sandbox, "eth0", *into)
        send(other.sandbox, "eth0", Frame("end"))
        expected = (out if "ingress" in directions else []) + (into if "egress" in directions else [])
        wait_for("the consumer has got all", lambda: len(copies.frames()) >= len(expected))
        send(producer.sandbox, "eth0", Frame("end"))
        wait_for("the other has got the last", lambda: Frame("end") in received.frames())
        found = Counter(frame.text for frame in copies.frames() if frame.text != "end")
    # Nothing but copies: Open vSwitch sends nothing else to an output port, not what all others get.
    assert found == Counter(frame.text for frame in expected)
    producer.check()
    consumer.check()
    for chain in (producer, consumer, other):
        chain.delete()
    assert mirroring.rows() == {}
    node.assert_nothing_left()


@pytest.mark.parametrize("role", [PRODUCER, CONSUMER])
def test_the_result_of_the_chain_is_that_of_the_plugin_before(mirroring: Mirroring, role: str) -> None:
    keys: Json = {"ipam": mirroring.node.host_local(), "mtu": 1400, "dns": {"nameservers": ["10.0.0.53"]}}
    plain, mirrored = mirroring.chain(**keys), mirroring.chain(role, {"name": "m", "ingress": True}, **keys)
    before, after = plain.add(), mirrored.add()
    assert set(after) == set(before)
    assert len(after["ips"]) == len(before["ips"]) == 1
    assert [set(entry) for entry in after["interfaces"]] == [set(entry) for entry in before["interfaces"]]
    assert after["interfaces"][1]["sandbox"] == mirrored.sandbox.path
    assert (after["dns"], after["cniVersion"]) == (before["dns"], "1.0.0")
    mirrored.delete()
    plain.delete()
    mirroring.node.assert_nothing_left()


def test_a_mirror_lasts_as_long_as_anybody_uses_it(mirroring: Mirroring) -> None:
    one = mirroring.added(PRODUCER, {"name": "m", **BOTH}, {"name": "n", "egress": True})
    two = mirroring.added(PRODUCER, {"name": "m", "ingress": True})
    consumer = mirroring.added(CONSUMER, {"name": "m"})
    rows = mirroring.rows()
    assert set(rows["m"]["select_src_port"]) == {mirroring.port(one), mirroring.port(two)}
    assert rows["m"]["select_dst_port"] == [mirroring.port(one)] == rows["n"]["select_dst_port"]
    assert rows["m"]["output_port"] == [mirroring.port(consumer)]
    assert rows["m"]["external_ids"] == {"owner": "cni-ovs"}
    one.delete()
    rows = mirroring.rows()
    assert list(rows) == ["m"]
    assert (rows["m"]["select_src_port"], rows["m"]["select_dst_port"]) == ([mirroring.port(two)], [])
    consumer.delete()
    assert list(mirroring.rows()) == ["m"]
    two.delete()
    assert mirroring.rows() == {}


def test_somebody_elses_mirror_is_used_and_never_removed(mirroring: Mirroring) -> None:
    node = mirroring.node
    node.openvswitch.vsctl(
        "--", "--id=@m", "create", "Mirror", "name=m", "--", "add", "Bridge", node.bridge, "mirrors", "@m"
    )
    producer = mirroring.added(PRODUCER, {"name": "m", "ingress": True})
    assert mirroring.rows()["m"]["select_src_port"] == [mirroring.port(producer)]
    producer.delete()
    assert mirroring.rows()["m"]["select_src_port"] == []


def test_an_empty_mirror_that_ovs_cni_has_made_is_removed(mirroring: Mirroring) -> None:
    node = mirroring.node
    owner = 'external_ids:owner="ovs-cni.network.kubevirt.io"'
    words = ["--id=@m", "create", "Mirror", "name=m", owner, "--", "add", "Bridge", node.bridge, "mirrors", "@m"]
    node.openvswitch.vsctl("--", *words)
    mirroring.added(PRODUCER, {"name": "m", "ingress": True}).delete()
    assert mirroring.rows() == {}


def test_a_mirror_of_that_name_on_another_bridge_is_another(mirroring: Mirroring) -> None:
    node = mirroring.node
    words = ["--id=@m", "create", "Mirror", "name=m", "--", "add", "Bridge", node.add_bridge(), "mirrors", "@m"]
    node.openvswitch.vsctl("--", *words)
    producer = mirroring.added(PRODUCER, {"name": "m", "ingress": True})
    assert mirroring.rows()["m"]["select_src_port"] == [mirroring.port(producer)]
    producer.delete()
    assert mirroring.rows() == {}


def test_a_second_consumer_is_refused_and_changes_nothing(mirroring: Mirroring) -> None:
    first = mirroring.added(CONSUMER, {"name": "m"})
    second = mirroring.chain(CONSUMER, {"name": "other"}, {"name": "m"})
    assert "mirror 'm' has a consumer already" in error_of(second)
    rows = mirroring.rows()
    assert list(rows) == ["m"] and rows["m"]["output_port"] == [mirroring.port(first)]
    second.delete()
    first.delete()
    assert mirroring.rows() == {}
    mirroring.node.assert_nothing_left()


def test_copies_can_be_sent_in_a_vlan(mirroring: Mirroring) -> None:
    node = mirroring.node
    trunk = mirroring.added()
    producer = mirroring.added(PRODUCER, {"name": "m", "ingress": True, "output_vlan": 99}, vlan=5)
    with captured(trunk.sandbox, "eth0", node.folder) as received:
        send(producer.sandbox, "eth0", Frame("x"))
        expected = {Frame("x", (Tag(5),)), Frame("x", (Tag(99),))}
        wait_for("frame and copy have come", lambda: set(received.frames()) == expected)
    producer.check()
    late = mirroring.chain(CONSUMER, {"name": "m"})
    assert "has output VLAN 99 already" in error_of(late)
    late.delete()
    producer.delete()
    assert mirroring.rows() == {}


def test_16_producers_at_once_leave_one_mirror_with_all_and_then_none(mirroring: Mirroring) -> None:
    chains = [mirroring.chain(PRODUCER, {"name": "m", **BOTH}) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            list(pool.map(Chain.add, chains))
            rows = mirroring.rows()
            assert list(rows) == ["m"]
            ports = {mirroring.port(chain) for chain in chains}
            assert set(rows["m"]["select_src_port"]) == set(rows["m"]["select_dst_port"]) == ports
            # Half come while half go: the mirror is never empty, or made anew, and has what it should.
            list(pool.map(Chain.delete, chains[:8]))
            list(pool.map(lambda pair: pair[1].delete() if pair[0] % 2 else pair[1].add(), enumerate(_mixed(chains))))
            ports = {mirroring.port(chain) for chain in chains[:8]}
            assert set(mirroring.rows()["m"]["select_src_port"]) == ports
            list(pool.map(Chain.delete, chains[:8]))
            assert mirroring.rows() == {}
    assert mirroring.node.openvswitch.rows("Mirror") == []
    mirroring.node.assert_nothing_left()


def _mixed(chains: list[Chain]) -> list[Chain]:
    """Those to be attached at the even places, those to be detached at the odd ones."""
    return [chain for pair in zip(chains[:8], chains[8:], strict=True) for chain in pair]


def test_a_port_that_is_gone_leaves_its_mirror_and_an_empty_mirror_is_removed_by_del(mirroring: Mirroring) -> None:
    producer = mirroring.added(PRODUCER, {"name": "m", "ingress": True})
    mirroring.node.openvswitch.vsctl("--with-iface", "del-port", str(producer.result["interfaces"][0]["name"]))  # type: ignore[index] # it has been added
    assert mirroring.rows()["m"]["select_src_port"] == []
    producer.delete()
    producer.delete()
    assert mirroring.rows() == {}
    mirroring.node.assert_nothing_left()


def test_del_succeeds_when_the_bridge_is_gone(mirroring: Mirroring) -> None:
    producer = mirroring.added(PRODUCER, {"name": "m", "ingress": True})
    mirroring.node.openvswitch.delete_bridge(mirroring.node.bridge)
    producer.delete()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["clear", "Mirror", "m", "select_src_port"], "is missing in select_src_port of mirror 'm'"),
        (["clear", "Bridge", "BRIDGE", "mirrors"], "mirror 'm' is missing"),
    ],
)
def test_check_says_what_is_missing(mirroring: Mirroring, change: list[str], text: str) -> None:
    producer = mirroring.added(PRODUCER, {"name": "m", "ingress": True})
    mirroring.node.openvswitch.vsctl(*(mirroring.node.bridge if word == "BRIDGE" else word for word in change))
    with pytest.raises(AssertionError, match=text):
        producer.check()
    producer.delete()


@pytest.mark.parametrize(
    ("role", "mirrors", "text"),
    [
        (PRODUCER, None, "'mirrors' is missing"),
        (PRODUCER, [], "must be a list"),
        (PRODUCER, ["m"], "must be a list"),
        (PRODUCER, [{"name": "m"}], "or both, to be true"),
        (PRODUCER, [{"name": "m", "ingress": 1}], "must be true or false"),
        (PRODUCER, [{"ingress": True}], "a mirror needs a "),
        (PRODUCER, [{"name": "m", "ingress": True}, {"name": "m", "egress": True}], "names a mirror twice"),
        (PRODUCER, [{"name": "m", "ingress": True, "output_vlan": 0}], "integer from 1 to 4094"),
        (CONSUMER, [{"name": "m", "output_vlan": 5}], "has no consumer"),
    ],
)
def test_a_mistake_is_refused(mirroring: Mirroring, role: str, mirrors: list[Any] | None, text: str) -> None:
    chain = mirroring.chain(role)
    section = chain.network["plugins"][1]
    section["mirrors"] = mirrors
    if mirrors is None:
        del section["mirrors"]
    assert text in error_of(chain)
    assert mirroring.rows() == {}
    chain.delete()
    mirroring.node.assert_nothing_left()


def test_it_goes_behind_ovs(mirroring: Mirroring) -> None:
    alone = mirroring.chain(PRODUCER, {"name": "m", "ingress": True})
    alone.network = copy.deepcopy(alone.network)
    del alone.network["plugins"][0]
    assert "prevResult" in error_of(alone)


def test_status_is_that_of_the_bridge(mirroring: Mirroring) -> None:
    chain = mirroring.chain(PRODUCER, {"name": "m", "ingress": True})
    chain.network["cniVersion"] = "1.1.0"
    chain.status()
    for plugin in chain.network["plugins"]:
        plugin["bridge"] = "nosuchbridge"
    with pytest.raises(AssertionError, match="nosuchbridge"):
        chain.status()


def test_version_needs_no_configuration(mirroring: Mirroring) -> None:
    program = mirroring.node.folder / "cni-bin" / PRODUCER
    assert '"1.1.0"' in run([program], env={"CNI_COMMAND": "VERSION"}).stdout
