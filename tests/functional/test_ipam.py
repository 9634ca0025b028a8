"""Addresses and routes of the real IPAM plugins, read back from the kernel."""

from __future__ import annotations

import pytest

from tests.support.ipam import static
from tests.support.namespace import needs_link_watch
from tests.support.node import Node
from tests.support.plugin import VERSIONS

pytestmark = pytest.mark.one_target

V4, V6 = "10.10.0.0/16", "2001:db8:10::/64"


@pytest.mark.contract(17)
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize("subnets", [(V4,), (V6,), (V4, V6)], ids=["v4", "v6", "dual"])
def test_host_local_addresses_reach_each_other(node: Node, kind: str, subnets: tuple[str, ...]) -> None:
    first, second = (node.attached(interface_type=kind, ipam=node.host_local(*subnets)) for _ in range(2))
    assert len(first.addresses) == len(subnets)
    for address in second.addresses:
        assert first.sandbox.pings(address)
    for pod in (first, second):
        assert len(pod.sandbox.address_texts("net1")) == len(subnets)
        pod.check().silent()
        pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(11, 17)
@pytest.mark.parametrize("version", VERSIONS)
def test_both_families_are_set_in_every_version(node: Node, version: str) -> None:
    pod = node.attachment(cniVersion=version, ipam=node.host_local(V4, V6))
    result = pod.add().result
    assert pod.sandbox.address_texts("net1") == {"10.10.0.2/16", "2001:db8:10::2/64"}
    if version in ("0.1.0", "0.2.0"):
        assert (result["ip4"]["ip"], result["ip6"]["ip"]) == ("10.10.0.2/16", "2001:db8:10::2/64")
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(17)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_a_default_route_leads_out_over_another_container(node: Node, kind: str) -> None:
    """The other container is the router, with an address beyond the subnet."""
    router = node.attached(ipam=static("10.1.0.1/24", "192.0.2.1/32", "2001:db8:1::1/64", "2001:db8:9::1/128"))
    ipam = static(
        *("10.1.0.2/24", "2001:db8:1::2/64"),
        gateways=("10.1.0.1", "2001:db8:1::1"),
        routes=({"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "2001:db8:1::1"}),
    )
    pod = node.attached(interface_type=kind, ipam=ipam)
    assert pod.sandbox.pings("192.0.2.1")
    assert pod.sandbox.pings("2001:db8:9::1")
    pod.check().silent()
    router.check().silent()


@pytest.mark.contract(17)
@pytest.mark.parametrize(
    ("destination", "gateway"), [("192.168.0.0/16", "10.1.0.1"), ("2001:db8:2::/48", "2001:db8:1::1")]
)
def test_every_field_of_a_route_reaches_the_kernel(node: Node, destination: str, gateway: str) -> None:
    fields = {"mtu": 1400, "advmss": 1300, "priority": 77, "table": 1000}
    ipam = static(
        *("10.1.0.2/24", "2001:db8:1::2/64"), routes=({"dst": destination, "gw": gateway, **fields, "scope": 0},)
    )
    pod = node.attached(ipam=ipam)
    route = pod.sandbox.route(destination, table=1000)
    assert (route.gateways, route.device) == ((gateway,), "net1")
    assert {key: getattr(route, key) for key in fields} == fields
    pod.check().silent()
    pod.sandbox.ip("-6" if ":" in gateway else "-4", "route", "delete", destination, "table", "1000")
    pod.check().error(106)


@pytest.mark.contract(17)
@pytest.mark.parametrize("scope", [0, 200])
def test_the_scope_of_an_ipv4_route_reaches_the_kernel(node: Node, scope: int) -> None:
    route = {"dst": "192.168.0.0/16", "gw": "10.1.0.1", "scope": scope}
    pod = node.attached(ipam=static("10.1.0.2/24", routes=(route,)))
    assert pod.sandbox.route("192.168.0.0/16").scope == scope
    pod.check().silent()


@pytest.mark.contract(17)
def test_a_route_of_link_scope_has_no_gateway_although_the_address_has_one(node: Node) -> None:
    route = {"dst": "192.168.0.0/16", "scope": 253}
    pod = node.attached(ipam=static("10.1.0.2/24", gateways=("10.1.0.1",), routes=(route,)))
    found = pod.sandbox.route("192.168.0.0/16")
    assert (found.gateways, found.scope) == ((), 253)


@pytest.mark.contract(17)
@pytest.mark.parametrize(
    ("destination", "gateways"),
    [
        ("192.168.0.0/16", ("10.1.0.1", "10.1.0.3")),
        ("0.0.0.0/0", ("10.1.0.1", "10.1.0.3", "10.1.0.4")),
        ("2001:db8:2::/48", ("2001:db8:1::1", "2001:db8:1::3")),
        ("::/0", ("2001:db8:1::1", "2001:db8:1::3")),
    ],
)
def test_the_same_destination_twice_is_a_multipath_route(
    node: Node, destination: str, gateways: tuple[str, ...]
) -> None:
    routes = tuple({"dst": destination, "gw": gateway} for gateway in gateways)
    pod = node.attached(ipam=static("10.1.0.2/24", "2001:db8:1::2/64", routes=routes))
    found = [route for route in pod.sandbox.routes() if route.destination == destination]
    assert sorted(gateway for route in found for gateway in route.gateways) == sorted(gateways)
    assert len(found) == 1
    assert pod.result is not None and pod.result["routes"] == list(routes)
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.contract(17)
def test_the_same_destination_with_different_priorities_is_two_routes(node: Node) -> None:
    routes = (
        {"dst": "192.168.0.0/16", "gw": "10.1.0.1", "priority": 10},
        {"dst": "192.168.0.0/16", "gw": "10.1.0.3", "priority": 20},
    )
    pod = node.attached(ipam=static("10.1.0.2/24", routes=routes))
    found = {route.priority: route.gateways for route in pod.sandbox.routes() if route.destination == "192.168.0.0/16"}
    assert found == {10: ("10.1.0.1",), 20: ("10.1.0.3",)}


@pytest.mark.contract(17)
def test_a_route_without_any_gateway_goes_straight_to_the_interface(node: Node) -> None:
    pod = node.attached(ipam=static("10.1.0.2/24", routes=({"dst": "192.168.0.0/16"},)))
    route = pod.sandbox.route("192.168.0.0/16")
    assert (route.gateways, route.device) == ((), "net1")


@pytest.mark.contract(17)
def test_routes_that_exist_already_do_not_fail_the_attachment(node: Node) -> None:
    """The connected route, which the kernel made with the address."""
    pod = node.attached(ipam=static("10.1.0.2/24", routes=({"dst": "10.1.0.0/24"},)))
    pod.check().silent()


@pytest.mark.contract(17)
def test_host_bits_in_a_destination_are_no_reason_to_fail(node: Node) -> None:
    """As Go's netlink library does it: the mask decides."""
    pod = node.attached(ipam=static("10.1.0.2/24", routes=({"dst": "192.168.1.1/16", "gw": "10.1.0.1"},)))
    assert pod.sandbox.route("192.168.0.0/16").gateways == ("10.1.0.1",)


@pytest.mark.contract(17)
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize("version", ["0.1.0", "1.0.0", "1.1.0"])
def test_a_duplicate_ipv6_address_is_refused_whatever_the_device(node: Node, kind: str, version: str) -> None:
    first = node.attached(ipam=static("2001:db8:1::2/64"))
    second = node.attachment(cniVersion=version, interface_type=kind, ipam=node.host_local("2001:db8:1::/64"))
    error = second.add().error(105)
    assert "2001:db8:1::2" in error["msg"]
    node.assert_nothing_left(keep=[first])


@pytest.mark.contract(17)
def test_the_same_ipv6_address_in_another_vlan_is_no_duplicate(node: Node) -> None:
    node.attached(vlan=5, ipam=static("2001:db8:1::2/64")).check().silent()
    node.attached(vlan=6, ipam=static("2001:db8:1::2/64")).check().silent()


@pytest.mark.contract(17)
@needs_link_watch
def test_ipv6_does_not_wait_until_the_kernel_has_acted_on_all_other_links(node: Node) -> None:
    """As after a boot, when all pods of a node start."""

    def ends_earlier() -> bool:
        pod = node.attachment(ipam=node.host_local(V6))
        busy, _ = node.sandbox(), pod.sandbox
        with busy.burst() as is_busy:
            pod.add().ok()
            return is_busy()

    # Links that come up elsewhere on the machine may have made the kernel get through all of them sooner.
    assert any(ends_earlier() for _ in range(5))
