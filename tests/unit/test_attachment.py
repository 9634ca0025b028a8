"""The names and records that follow from an attachment."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.plugin import attachment
from cni_ovs.plugin import config as network_config
from cni_ovs.plugin.attachment import Attachment
from cni_ovs.plugin.protocol import Invocation

Triple = tuple[str, str, str]
LONG_ID = "0123456789abcdef" * 4

# The names were computed with another program: hash/fnv of Go.
KNOWN: list[tuple[Triple, str]] = [
    (("ovs-net", "8a5b1c", "eth0"), "cnid082515e5c6c"),
    (("n", "c", "net1"), "cni0d5e162f8266"),
    (("production.blue", LONG_ID, "übel0"), "cni2af1fbb26e78"),
]

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,80}", fullmatch=True)
characters = st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters="/:")
ifnames = st.text(characters, min_size=1, max_size=15)
triples = st.tuples(names, names, ifnames)


def fnv_folded(triple: Triple) -> int:
    """FNV-1a of 64 bits as its authors define it, folded to 48 as they recommend."""
    value = reduce(
        lambda state, byte: (state ^ byte) * 1099511628211 % 2**64,
        b"\0".join(part.encode() for part in triple),
        14695981039346656037,
    )
    return (value // 2**48) ^ (value % 2**48)


@pytest.mark.parametrize(("triple", "name"), KNOWN)
def test_the_port_name_never_changes(triple: Triple, name: str) -> None:
    # A DEL of the next release must find the port that an ADD of this one made.
    assert attachment.port_name(*triple) == name
    assert name == f"cni{fnv_folded(triple):012x}"


@given(triples)
def test_the_port_name_is_cni_and_twelve_hexadecimal_digits(triple: Triple) -> None:
    name = attachment.port_name(*triple)
    assert name == f"cni{fnv_folded(triple):012x}"
    assert len(name.encode()) == 15


@given(triples, triples)
def test_different_attachments_have_different_port_names(one: Triple, other: Triple) -> None:
    assert (attachment.port_name(*one) == attachment.port_name(*other)) == (one == other)


def test_ten_thousand_attachments_have_as_many_port_names() -> None:
    made = {
        attachment.port_name(f"net{n}", f"{c:064x}", f"eth{i}") for n in range(5) for c in range(1000) for i in range(2)
    }
    assert len(made) == 10_000


def test_what_belongs_to_one_part_cannot_be_taken_for_the_next() -> None:
    split = [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("abc", "d", "e"), ("a", "bcd", "e")]
    assert len({attachment.port_name(*triple) for triple in split}) == len(split)


def test_a_port_is_recorded_with_whose_it_is() -> None:
    pod = {"contPodName": "p", "contPodUid": "u"}
    made = Attachment("net", "container", "eth0", "/run/netns/x", pod)
    assert made.identity == {"owner": "cni-ovs", "contNetwork": "net", "contID": "container", "contIface": "eth0"}
    assert made.external_ids == {**made.identity, "contNetns": "/run/netns/x", **pod}
    assert made.port_name == attachment.port_name("net", "container", "eth0")


def test_what_identifies_a_port_does_not_depend_on_namespace_or_pod() -> None:
    add = Attachment("net", "container", "eth0", "/run/netns/x", {"contPodName": "p"})
    delete = Attachment("net", "container", "eth0", "", {})
    assert (add.identity, add.port_name) == (delete.identity, delete.port_name)


def test_the_ports_of_a_network_have_part_of_what_identifies_each() -> None:
    of_network = attachment.of_network("net")
    assert of_network == {"owner": "cni-ovs", "contNetwork": "net"}
    assert of_network.items() <= attachment.identity("net", "c", "e").items()


def test_an_attachment_is_made_of_environment_and_configuration() -> None:
    invocation = Invocation(
        {"CNI_CONTAINERID": "c", "CNI_IFNAME": "e", "CNI_NETNS": "/n", "CNI_ARGS": "K8S_POD_NAME=p"}
    )
    config = network_config.parse({"name": "net", "bridge": "b"}, b"", invocation.args)
    made = attachment.of(invocation, config)
    assert (made.network, made.container_id, made.ifname, made.netns) == ("net", "c", "e", "/n")
    assert made.external_ids == {**attachment.identity("net", "c", "e"), "contNetns": "/n", "contPodName": "p"}
