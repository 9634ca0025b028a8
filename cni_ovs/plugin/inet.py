"""Addresses as text and as bytes: IPv4 and IPv6 with a prefix length, and Ethernet addresses.

The standard library's `ipaddress` costs more start-up time than an attachment takes (docs/design.md).
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton


def parse_ip(text: str) -> tuple[int, bytes]:
    """Address family and bytes of an address such as `10.1.2.3` or `fd00::1`.

    Raises:
        ValueError: it is neither.
    """
    family = AF_INET6 if ":" in text else AF_INET
    try:
        return family, inet_pton(family, text)
    except (OSError, ValueError) as error:  # ValueError: an embedded NUL
        raise ValueError(f"{text!r} is not an IP address") from error


def parse_cidr(text: str) -> tuple[int, bytes, int]:
    """Address family, bytes and prefix length of a CIDR such as `10.1.2.3/24`.

    Raises:
        ValueError: the address is invalid, or the prefix length is missing or out of range.
    """
    address, slash, prefix = text.partition("/")
    family, packed = parse_ip(address)
    if not slash or not prefix.isascii() or not prefix.isdigit() or len(prefix) > 3 or int(prefix) > len(packed) * 8:
        raise ValueError(f"{text!r} has no prefix length between 0 and {len(packed) * 8}")
    return family, packed, int(prefix)


def format_ip(packed: bytes) -> str:
    """The text of 4 or 16 address bytes."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def network_of(packed: bytes, prefix: int) -> bytes:
    """The address with every bit behind the prefix cleared: the kernel refuses a route whose host bits are set."""
    bits = len(packed) * 8
    value = int.from_bytes(packed, "big") >> (bits - prefix) << (bits - prefix)
    return value.to_bytes(len(packed), "big")


def parse_mac(text: str) -> bytes:
    """Six bytes of an Ethernet address such as `02:00:00:00:00:01` (or with `-`).

    Raises:
        ValueError: it is not one, or no interface may have it: a multicast address, or zero.
    """
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or not all(
        len(part) == 2 and all(c in "0123456789abcdefABCDEF" for c in part) for part in parts
    ):
        raise ValueError(f"{text!r} is not an Ethernet address of the form 02:00:00:00:00:01")
    packed = bytes(int(part, 16) for part in parts)
    if packed[0] & 1:
        raise ValueError(f"{text!r} is a multicast address; an interface needs a unicast one (even first byte)")
    if not any(packed):
        raise ValueError(f"{text!r} is no address an interface can have")
    return packed


def format_mac(packed: bytes) -> str:
    """`02:00:00:00:00:01` of six bytes."""
    return ":".join(f"{byte:02x}" for byte in packed)
