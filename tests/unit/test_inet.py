"""Addresses as text and as bytes, compared with the standard library's `ipaddress`."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ovs.plugin import inet

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
# Like addresses, but mostly wrong.
nearly = st.text("0123456789abcdefF.:/% ", max_size=45)
any_address = st.ip_addresses()
packed_with_prefix = st.sampled_from([4, 16]).flatmap(
    lambda size: st.tuples(st.binary(min_size=size, max_size=size), st.integers(0, size * 8))
)


def is_address(text: str) -> bool:
    """Whether `ipaddress` takes it. A zone (`%eth0`) is no part of an address in CNI."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


@given(any_address)
def test_an_address_is_read_like_ipaddress_does(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    for text in {str(address), address.exploded, str(address).upper()}:
        assert inet.parse_ip(text) == (FAMILY[address.version], address.packed)


@given(nearly)
def test_what_ipaddress_refuses_is_no_address(text: str) -> None:
    if is_address(text):
        assert inet.parse_ip(text)[1] == ipaddress.ip_address(text).packed
    else:
        with pytest.raises(ValueError, match="is not an IP address"):
            inet.parse_ip(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.256",
        "1.2.3.4\0",
        " 1.2.3.4",
        "1.2.3.4\n",
        "0x1.2.3.4",
        "\u0661.2.3.4",
    ],
)
def test_forms_that_other_libraries_take_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        inet.parse_ip(text)


@pytest.mark.parametrize(
    "text", [":", ":::", "::1::", "12345::", "fe80::1%eth0", "::1\0", "\ud800::", "1:2:3:4:5:6:7:8:9"], ids=ascii
)
def test_forms_that_only_look_like_ipv6_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        inet.parse_ip(text)


@pytest.mark.parametrize("read", [inet.parse_ip, inet.parse_cidr, inet.parse_mac])
@given(text=st.text() | nearly)
def test_no_text_does_worse_than_a_value_error(read: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(ValueError):
        read(text)


@given(any_address, st.integers(0, 200))
def test_a_cidr_is_read_like_ipaddress_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int
) -> None:
    text = f"{address}/{prefix}"
    if prefix > address.max_prefixlen:
        with pytest.raises(ValueError, match=f"between 0 and {address.max_prefixlen}"):
            inet.parse_cidr(text)
        return
    interface = ipaddress.ip_interface(text)
    assert inet.parse_cidr(text) == (FAMILY[address.version], interface.ip.packed, interface.network.prefixlen)


@pytest.mark.parametrize(
    "text",
    ["1.2.3.4", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/33", "1.2.3.4/1/2", "1.2.3.4/ 8", "1.2.3.4/8 ", "1.2.3.4/２４"]
    + ["1.2.3.4/255.255.255.0", "::/129", "::/", "/24", "", "1.2.3.4/0024", "1.2.3.4/x"],
)
def test_what_is_no_cidr_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an IP address|has no prefix length"):
        inet.parse_cidr(text)


@given(packed_with_prefix)
def test_the_text_of_an_address_is_read_back(address: tuple[bytes, int]) -> None:
    packed, _ = address
    text = inet.format_ip(packed)
    assert inet.parse_ip(text)[1] == packed
    assert ipaddress.ip_address(text).packed == packed


@given(packed_with_prefix)
def test_the_network_of_an_address_is_that_of_ipaddress(address: tuple[bytes, int]) -> None:
    packed, prefix = address
    expected = ipaddress.ip_network((packed, prefix), strict=False)
    assert inet.network_of(packed, prefix) == expected.network_address.packed


@given(st.binary(min_size=6, max_size=6))
def test_an_ethernet_address_is_read_back_if_an_interface_may_have_it(packed: bytes) -> None:
    text = inet.format_mac(packed)
    assert text == packed.hex(":")
    for form in (text, text.upper(), text.replace(":", "-")):
        if packed[0] % 2 or not any(packed):
            with pytest.raises(ValueError, match=r"multicast|can have"):
                inet.parse_mac(form)
        else:
            assert inet.parse_mac(form) == packed


@pytest.mark.parametrize(
    "text",
    ["", ":::::", "02:00:00:00:00", "02:00:00:00:00:00:00", "2:0:0:0:0:1", "02:00:00:00:00:0g", "02:00:00:00:00:+1"]
    + ["02:00:00:00:00: 1", "0200.0000.0001", "020000000001", "02:00:00:00:00:\u0660\u0661"],
)
def test_what_is_no_ethernet_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an Ethernet address"):
        inet.parse_mac(text)
