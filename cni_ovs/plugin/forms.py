"""The forms that values of the network configuration may have.

Each function takes a JSON value and returns what it means, or raises ValueError with a text that says what is allowed.
"""

from __future__ import annotations

from . import log
from .attachment import RECORDED_IDS
from .inet import parse_ip, parse_mac
from .netlink import IFNAME_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeGuard

# What a configuration may say, and the kind of port in devices/. Those of Open vSwitch have its own names.
INTERFACE_TYPES = {
    **dict.fromkeys(("veth", "", "system"), "veth"),
    **{name: name for name in ("internal", "tap", "dpdkvhostuserclient", "dpdkvhostuser")},
}
UNIX_PATH_BYTES = 107  # of a Unix socket: sun_path of unix(7), without its final NUL
_ID_LENGTH = 4096  # of a container id in Open vSwitch; more does not fit into a variable for the IPAM plugin
# Bounded so that a wrong unit (milliseconds) does not make a runtime wait for hours.
LONGEST_TIMEOUT = 3600


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a JSON value is an integer (in Python, True is one too)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_utf8(value: str) -> bool:
    """Whether a string can be encoded: bytes that were no UTF-8, and some escapes of JSON, become lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_identifier(value: str) -> bool:
    """`[A-Za-z0-9]`, then any number of `[A-Za-z0-9_.-]`, as container ids and network names must be."""
    return value.isascii() and value[:1].isalnum() and all(c.isalnum() or c in "_.-" for c in value)


def ifname_problem(name: str) -> str:
    """Why this is no name for an interface; empty if it is one."""
    if len(name.encode(errors="surrogateescape")) > IFNAME_BYTES:
        return f"it is longer than {IFNAME_BYTES} bytes"
    if name in (".", ".."):
        return "it must not be . or .."
    if any(c in "/:%\0" or c.isspace() for c in name):
        # The kernel takes a % for a template, and makes eth0 of eth%d.
        return "it must not contain '/', ':', '%' or white space"
    return "" if is_utf8(name) else "it is not UTF-8"


def tells_attachment(external_ids: dict[str, str]) -> bool:
    """Whether these tell whose a port is: container and interface are there, and a runtime can have called them so."""
    container_id, ifname = external_ids.get("contID", ""), external_ids.get("contIface")
    if not ifname or ifname_problem(ifname):
        return False
    return len(container_id) <= _ID_LENGTH and is_identifier(container_id)


def integer(lowest: int, highest: int, zero_is_none: bool = False) -> Callable[[Any], int | None]:
    """A form for integers within limits; with `zero_is_none` also 0, which then means that none is given."""

    def convert(value: Any) -> int | None:
        if is_integer(value):
            if lowest <= value <= highest:
                return int(value)
            if value == 0 and zero_is_none:  # plugins written in Go cannot tell 0 from a missing key
                return None
        raise ValueError(f"must be an integer from {lowest} to {highest}")

    return convert


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def anything(value: Any) -> Any:
    """Whatever it is."""
    return value


def text(value: Any) -> str:
    """A string without control characters."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return value


def bridge(value: Any) -> str:
    """The name of a bridge."""
    name = text(value)
    if not name or "/" in name or len(name) > 255:
        raise ValueError("must be the name of an Open vSwitch bridge")
    return name


def interface_type(value: Any) -> str:
    """The kind of port, by the name that devices/ has for it."""
    if not isinstance(value, str) or value not in INTERFACE_TYPES:
        raise ValueError("must be veth (also '' or system), internal, tap, dpdkvhostuserclient or dpdkvhostuser")
    return INTERFACE_TYPES[value]


def pci_address(value: Any) -> str | None:
    """The address of a PCI device, as sysfs writes it; None for an empty one."""
    address = text(value).lower()
    if not address:
        return None
    domain, *rest = address.replace(".", ":").split(":")
    digits = [len(part) for part in rest] == [2, 2, 1] and 4 <= len(domain) <= 8
    in_order = address[-2:-1] == "." and address.count(".") == 1
    if not digits or not in_order or any(c not in "0123456789abcdef" for part in (domain, *rest) for c in part):
        raise ValueError("must be the address of a PCI device, such as 0000:03:00.5")
    return address


def timeout(value: Any) -> float:
    """Seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= LONGEST_TIMEOUT:
        raise ValueError(f"must be a number of seconds from 1 to {LONGEST_TIMEOUT}")
    return float(value)


def socket_file(value: Any) -> str:
    """Where ovsdb-server listens, as "unix:PATH" or "tcp:ADDRESS:PORT"."""
    address = text(value)
    if address.startswith("tcp:"):
        host, _, port = address[4:].rpartition(":")
        if host == "localhost":
            host = "127.0.0.1"
        # Only addresses: resolving a name can take longer than anybody waits, and cannot be bounded.
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            family_matches = (":" in bare) == (bare != host)
            parse_ip(bare)
        except ValueError:
            family_matches = False
        if not family_matches or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise ValueError("must be tcp:ADDRESS:PORT (an IPv6 address in brackets)")
        return f"tcp:{host}:{port}"
    path = address.removeprefix("unix:")
    if not path.startswith("/"):
        raise ValueError("must be unix:PATH, an absolute path, or tcp:ADDRESS:PORT")
    if len(path.encode()) > UNIX_PATH_BYTES:
        raise ValueError("is too long: the path of a Unix socket has at most 107 bytes")
    return f"unix:{path}"


def ipam_type(value: Any) -> str | None:
    """The file name of an IPAM plugin; None for an empty one."""
    name = text(value)
    if "/" in name or name in (".", ".."):
        raise ValueError("must be the file name of an IPAM plugin, without a path")
    return name or None


def external_ids(value: Any) -> dict[str, str]:
    """What a user may add to the external_ids of a port."""
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("must be an object whose values are strings")
    for key, item in value.items():
        if "\0" in key + item or not is_utf8(key + item):
            raise ValueError("has characters that Open vSwitch cannot keep")
        if key in RECORDED_IDS:
            raise ValueError(f"{key!r} is written by the plugin itself")
    return value


def log_level(value: Any) -> str:
    """One of log.LEVELS."""
    if value not in log.LEVELS:
        raise ValueError("must be one of " + ", ".join(log.LEVELS))
    return str(value)


def flat_file(value: Any) -> str:
    """An absolute path, or "" for none."""
    return "" if value == "" else log_file(value)


def log_file(value: Any) -> str:
    """An absolute path."""
    path = text(value)
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


def mac(value: Any) -> bytes:
    """The MAC address of an interface."""
    return parse_mac(text(value))
