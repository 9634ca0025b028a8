"""Which capabilities the plugin needs. `build/test --target=confined` runs all tests with those that suffice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import CAPABILITIES, REPOSITORY, confined

KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


@pytest.mark.parametrize("kind", KINDS)
def test_these_suffice(openvswitch: PrivateOpenVSwitch, tmp_path: Path, kind: str) -> None:
    node = Node(openvswitch, confined(*CAPABILITIES), tmp_path)
    try:
        pod = node.attached(
            interface_type=kind,
            ipam=node.host_local("10.10.0.0/16", "fd00:10::/64"),
            mtu=1400,
            vlan=7,
        )
        pod.check().silent()
        pod.status().silent()
        pod.delete().silent()
        node.attached(interface_type=kind, ipam=node.host_local())
        pod.gc(**{"cni.dev/valid-attachments": []}).silent()
        node.assert_nothing_left()
    finally:
        node.clean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", CAPABILITIES)
def test_without_one_of_them_add_says_what_it_may_not_and_leaves_nothing(
    openvswitch: PrivateOpenVSwitch, tmp_path: Path, kind: str, missing: str
) -> None:
    node = Node(openvswitch, confined(*(name for name in CAPABILITIES if name != missing)), tmp_path)
    try:
        error = node.attachment(interface_type=kind, ipam=node.host_local()).add().error(4, 103)
        assert "permitted" in f"{error['msg']} {error.get('details')}", error
        node.assert_nothing_left()
    finally:
        node.clean()


def test_the_documentation_names_them() -> None:
    text = (REPOSITORY / "docs/security.md").read_text()
    for name in CAPABILITIES:
        assert f"CAP_{name.upper()}" in text
