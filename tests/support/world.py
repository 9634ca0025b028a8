"""A node with one of everything that hangs on bridges, for what tells of it."""

from __future__ import annotations

import secrets
from typing import Any

from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.plugin import Attachment


class World:
    """A node with two bridges, and one of everything on them."""

    def __init__(self, node: Node) -> None:
        """Attaches all."""
        self.node = node
        self.cli = Cli(node.host, node.openvswitch.remote)
        self.inner, self.outer = node.bridge, node.add_bridge()
        self.uplink, self.wire = f"up{secrets.token_hex(3)}", f"wi{secrets.token_hex(3)}"
        self.tunnel = f"vx{secrets.token_hex(3)}"
        self.patches = f"pi{secrets.token_hex(3)}", f"po{secrets.token_hex(3)}"
        self.bad = f"no{secrets.token_hex(3)}"
        for name in (self.uplink, self.wire):
            node.device(name)
        node.host.ip("link", "add", self.uplink, "mtu", "1400", "type", "veth", "peer", "name", self.wire)
        node.host.ip("link", "set", self.uplink, "up")
        node.host.ip("link", "set", self.wire, "up")
        vsctl = node.openvswitch.vsctl
        vsctl("add-port", self.outer, self.uplink)
        for bridge, name, peer in zip((self.inner, self.outer), self.patches, self.patches[::-1], strict=True):
            patch = ("type=patch", f"options:peer={peer}")
            vsctl("--no-wait", "add-port", bridge, name, "--", "set", "Interface", name, *patch)
        vxlan = ("type=vxlan", "options:remote_ip=192.0.2.7", "options:key=5001")
        vsctl("add-port", self.inner, self.tunnel, "--", "set", "Interface", self.tunnel, *vxlan)
        vsctl("--no-wait", "add-port", self.outer, self.bad)
        self.addresses = node.host_local("10.10.0.0/16")
        self.web = self.pod("web", bridge=self.inner, vlan=5, mtu=1300, bandwidth={"ingressRate": 10**7})
        self.router = self.pod("router", bridge=self.inner, vlan=5, trunk=[{"id": 7}, {"minID": 20, "maxID": 29}])
        self.inside = node.attached(bridge=self.outer, interface_type="internal", ifname="eth1", ipam=self.addresses)

    def pod(self, name: str, **keys: Any) -> Attachment:
        """A pod of that name in the Kubernetes namespace `shop`, attached."""
        names = f"IgnoreUnknown=true;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}"
        return self.node.attached(cni_args=names, ifname="eth1", ipam=self.addresses, **keys)

    def ports(self, *words: str) -> dict[str, Any]:
        """What --json tells of the ports of both bridges, by name."""
        bridges = self.cli.json("show", *words)["bridges"]
        found = [port for bridge in bridges if bridge["name"] in (self.inner, self.outer) for port in bridge["ports"]]
        return {port["name"]: port for port in found}

    def port(self, pod: Attachment, *words: str) -> Any:
        """What --json tells of a pod's port."""
        return self.ports(*words)[self.name(pod)]

    def name(self, pod: Attachment) -> str:
        """The name of a pod's port."""
        name = self.node.port(pod)["name"]
        assert isinstance(name, str)
        return name
