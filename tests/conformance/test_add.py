"""CNI contract, section "ADD" (points 13 to 17)."""

from __future__ import annotations

import threading

import pytest

from tests.support.ipam import static
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.plugin import VERSIONS, Outcome

MAC_A, MAC_B, MAC_C = "02:aa:00:00:00:01", "02:bb:00:00:00:02", "02:cc:00:00:00:03"


# Where it is attached to (13)


def _occupy(sandbox: Namespace, name: str) -> None:
    sandbox.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")


@pytest.mark.one_target
@pytest.mark.contract(13)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_an_interface_name_in_use_is_an_error_and_its_device_stays_as_it_was(node: Node, kind: str) -> None:
    pod = node.attachment(interface_type=kind, ipam=node.host_local(), mtu=1300)
    _occupy(pod.sandbox, "net1")
    before = pod.sandbox.links()
    error = pod.add().error(102)
    assert "net1" in error["msg"]
    assert pod.sandbox.links() == before
    pod.sandbox.ip("link", "delete", "net1")
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(13)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_an_alternative_name_in_use_counts_as_in_use(node: Node, kind: str) -> None:
    pod = node.attachment(interface_type=kind)
    _occupy(pod.sandbox, "other")
    pod.sandbox.ip("link", "property", "add", "dev", "other", "altname", "net1")
    before = pod.sandbox.links()
    pod.add().error(102)
    assert pod.sandbox.links() == before
    pod.sandbox.ip("link", "delete", "other")
    node.assert_nothing_left()


@pytest.mark.contract(13)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_a_second_add_of_the_same_attachment_fails_and_the_first_goes_on_working(node: Node, kind: str) -> None:
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    other = node.attached(ipam=node.host_local())
    before = (node.port(pod), node.interface(pod)["ofport"], pod.sandbox.links(), node.addresses_given_out())
    pod.add().error(102)
    assert (node.port(pod), node.interface(pod)["ofport"], pod.sandbox.links(), node.addresses_given_out()) == before
    assert other.sandbox.pings(pod.addresses[0])
    pod.check().silent()
    pod.delete().silent()
    other.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(13)
def test_a_namespace_that_cannot_be_opened_is_named(node: Node) -> None:
    plain = node.folder / "plain-file"
    plain.write_text("")
    for path in ("/run/netns/cniovs-no-such", str(plain), str(node.folder), "/proc/self/ns/mnt", "relative/path"):
        pod = node.attachment(ipam=node.host_local())
        error = pod.add(CNI_NETNS=path).error(4)
        assert path in error["msg"], error
    node.assert_nothing_left()


# Nothing remains of a failed ADD (14); more of it in tests/functional/test_undo.py


@pytest.mark.one_target
@pytest.mark.contract(14)
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("exit 1", 104),
        ("kill -9 $$", 104),
        ("echo nonsense", 104),
        ("echo '[]'", 104),
        ("echo '{}'", 104),
        ("""echo '{"cniVersion": "1.0.0", "ips": []}'""", 104),
        ("""echo '{"cniVersion": "1.0.0", "ips": [{"address": "no address"}]}'""", 104),
        ("""echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2"}]}'""", 104),
        ("""echo '{"cniVersion": "1.0.0", "ips": "10.1.0.2/24"}'""", 104),
        ("""echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no addresses today"}'; exit 1""", 11),
    ],
    ids=[
        *("fails-silently", "killed", "no-json", "no-object", "empty-object", "no-address", "malformed-address"),
        *("no-prefix", "ips-no-list", "own-error"),
    ],
)
def test_after_a_failure_of_ipam_it_is_told_to_delete_and_nothing_remains(
    node: Node, kind: str, action: str, code: int
) -> None:
    ipam = node.scripted_ipam(ADD=action)
    pod = node.attachment(
        cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder), timeout=10
    )
    pod.add().error(code)
    assert ipam.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(14)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_after_ipam_returns_the_address_and_removes_everything(node: Node, version: str) -> None:
    """The kernel refuses a route through a gateway that no address of the interface reaches."""
    ipam = {**node.host_local(), "routes": [{"dst": "192.168.0.0/16", "gw": "203.0.113.1"}]}
    pod = node.attachment(cniVersion=version, ipam=ipam)
    error = pod.add().error(103)
    assert "192.168.0.0/16" in error["msg"] and "203.0.113.1" in error["msg"]
    node.assert_nothing_left()


@pytest.mark.contract(14)
def test_an_error_of_the_undoing_does_not_hide_the_first_error(node: Node) -> None:
    ipam = node.scripted_ipam()
    ipam.act(ADD=ipam.refuse(77, "the first error"), DEL=ipam.refuse(78, "the second error"))
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    error = pod.add().error(77)
    assert "the first error" in error["msg"]
    node.assert_nothing_left()


# Several at once (15); the large one is in tests/functional/test_concurrency.py


@pytest.mark.contract(15)
def test_adds_of_different_containers_at_the_same_time_do_not_disturb_each_other(node: Node) -> None:
    pods = [node.attachment(ipam=node.host_local()) for _ in range(6)]
    outcomes: dict[int, Outcome] = {}

    def add(number: int) -> None:
        outcomes[number] = pods[number].add()

    threads = [threading.Thread(target=add, args=(number,)) for number in range(len(pods))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(len(pods)):
        outcomes[number].ok()
    assert len({pod.addresses[0] for pod in pods}) == len(pods)
    assert len({node.interface(pod)["ofport"] for pod in pods}) == len(pods)
    assert pods[0].sandbox.pings(pods[-1].addresses[0])
    for pod in pods:
        pod.delete().silent()
    node.assert_nothing_left()


# MAC and CNI_ARGS (16)


@pytest.mark.one_target
@pytest.mark.contract(16)
@pytest.mark.parametrize("kind", ["veth", "internal"])
@pytest.mark.parametrize(
    ("runtime", "args_cni", "cni_args", "expected"),
    [
        (MAC_A, MAC_B, MAC_C, MAC_A),
        (None, MAC_B, MAC_C, MAC_B),
        (None, None, MAC_C, MAC_C),
        (MAC_A, None, MAC_C, MAC_A),
        (MAC_A.upper(), None, None, MAC_A),
    ],
    ids=["runtimeConfig-first", "then-args.cni", "then-CNI_ARGS", "not-args.cni", "upper-case"],
)
def test_the_mac_comes_from_the_first_of_its_sources(
    node: Node, kind: str, runtime: str | None, args_cni: str | None, cni_args: str | None, expected: str
) -> None:
    pod = node.attachment(
        interface_type=kind,
        runtimeConfig={"mac": runtime} if runtime else None,
        args={"cni": {"mac": args_cni}} if args_cni else None,
    )
    pod.args = f"IgnoreUnknown=1;MAC={cni_args}" if cni_args else ""
    pod.add().ok()
    assert pod.container_interface["mac"] == expected
    assert pod.sandbox.link("net1").mac == expected
    pod.check().silent()


@pytest.mark.contract(16)
def test_cni_args_may_have_any_order_repeated_keys_and_equal_signs(node: Node) -> None:
    pod = node.attachment(
        cni_args=f"K8S_POD_NAME=first;MAC={MAC_A};X=a=b=c;MAC={MAC_B};IgnoreUnknown=true;K8S_POD_NAME=web=1"
    )
    pod.add().ok()
    assert pod.sandbox.link("net1").mac == MAC_B
    assert node.port(pod)["external_ids"]["contPodName"] == "web=1"


@pytest.mark.one_target
@pytest.mark.contract(16)
def test_what_kubernetes_runtimes_send_is_recorded_and_unknown_keys_are_ignored(node: Node) -> None:
    pod = node.attachment(
        cni_args="K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1f4b;IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;"
        "K8S_POD_NAME=web-0;SOMETHING=else"
    )
    pod.add().ok()
    ids = node.port(pod)["external_ids"]
    assert (ids["contPodUid"], ids["contPodName"], ids["contPodNamespace"]) == ("1f4b", "web-0", "shop")
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(16)
@pytest.mark.parametrize("args", ["nonsense", "MAC=02:00:00:00:00:01;nonsense"])
def test_a_pair_without_an_equal_sign_is_an_error_of_the_environment(node: Node, args: str) -> None:
    assert "nonsense" in node.attachment(cni_args=args).add().error(4)["msg"]
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(16)
@pytest.mark.parametrize(
    "mac", ["01:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00", "nonsense", "00:00:00:00:00:00"]
)
def test_a_mac_that_no_interface_can_have_is_refused_where_it_comes_from(node: Node, mac: str) -> None:
    assert mac in node.attachment(cni_args=f"MAC={mac}").add().error(4)["msg"]
    assert mac in node.attachment(runtimeConfig={"mac": mac}).add().error(7)["msg"]
    assert mac in node.attachment(args={"cni": {"mac": mac}}).add().error(7)["msg"]
    node.assert_nothing_left()


# Addresses and routes (17); more in tests/functional/test_ipam.py and test_announcements.py


@pytest.mark.contract(17)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_every_address_of_both_families_is_there_and_settled_at_once(node: Node, kind: str) -> None:
    wanted = ["10.1.0.2/24", "10.2.0.2/16", "2001:db8:1::2/64", "2001:db8:2::2/48"]
    pod = node.attachment(interface_type=kind, ipam=static(*wanted))
    pod.add().ok()
    addresses = pod.sandbox.addresses("net1", link_local=True)
    assert set(wanted) <= {address.address for address in addresses}
    assert [address for address in addresses if address.tentative and not address.address.startswith("fe80:")] == []
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(17)
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_ipv6_is_switched_on_where_the_runtime_switched_it_off(node: Node, kind: str) -> None:
    pod = node.attachment(interface_type=kind, ipam=static("2001:db8:1::2/64"))
    for scope in ("all", "default"):
        pod.sandbox.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
    pod.add().ok()
    assert pod.sandbox.address_texts("net1") == {"2001:db8:1::2/64"}


@pytest.mark.one_target
@pytest.mark.contract(17)
def test_ipv6_needs_no_write_where_proc_sys_is_read_only_and_it_is_switched_on(node: Node) -> None:
    pod = node.attachment(ipam=static("10.1.0.2/24", "2001:db8:1::2/64"))
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    wrapper = ("unshare", "--mount", "sh", "-ec", script, "sh")
    node.plugin.run(pod.environment("ADD"), pod.config, wrapper=wrapper).ok()
    assert pod.sandbox.address_texts("net1") >= {"10.1.0.2/24", "2001:db8:1::2/64"}
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(17)
def test_a_route_without_gateway_takes_the_first_gateway_of_its_family(node: Node) -> None:
    pod = node.attachment(
        ipam=static(
            "10.1.0.2/24",
            "10.2.0.2/24",
            "2001:db8:1::2/64",
            gateways=("10.1.0.1", "10.2.0.1", "2001:db8:1::1"),
            routes=({"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.168.0.0/16", "gw": "10.2.0.1"}),
        )
    )
    pod.add().ok()
    assert pod.sandbox.route("0.0.0.0/0").gateways == ("10.1.0.1",)
    assert pod.sandbox.route("::/0").gateways == ("2001:db8:1::1",)
    assert pod.sandbox.route("192.168.0.0/16").gateways == ("10.2.0.1",)


@pytest.mark.contract(17)
def test_a_duplicate_ipv6_address_is_an_error_that_leaves_nothing(node: Node) -> None:
    first = node.attached(ipam=static("2001:db8:1::2/64"))
    second = node.attachment(ipam=static("2001:db8:1::2/64"))
    error = second.add().error(105)
    assert "2001:db8:1::2" in error["msg"]
    node.assert_nothing_left(keep=[first])
    first.check().silent()
    first.delete().silent()
    node.assert_nothing_left()
