"""A flat file: a part of the network configuration that all networks of a node have in common.

What the configuration leaves out is taken from there, key by key. ovs-cni has such files, in the same places.
"""

from __future__ import annotations

import posix

from . import jsontext
from .config import lookup
from .errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 1 << 20  # bytes
_S_IFMT, _S_IFREG, _S_IWGRP, _S_IWOTH = 0o170000, 0o100000, 0o020, 0o002  # linux/stat.h
# What a runtime says of one network is not for all of them.
_NOT_COMMON = {"cniversion", "name", "type", "prevresult", "args", "runtimeconfig", "capabilities", "plugins"}
_ZERO_IS_NONE = ("mtu", "ofport_request")


def fill_up(values: dict[str, Any], raw: bytes, path: str) -> tuple[dict[str, Any], bytes, list[str]]:
    """A configuration, and what it leaves out as the flat file has it.

    An empty value is one that is left out, because clients written in Go cannot tell the one from the other.

    Args:
        values, raw: the configuration, and the same as JSON.
        path: of the file, absolute.

    Returns:
        The whole, the same as JSON, and which keys are from the file.

    Raises:
        CniError: as `read`.
    """
    filled = {key: value for key, value in read(path).items() if _is_left_out(values, key)}
    if not filled:
        return values, raw, []
    keys = {key.lower() for key in filled}
    whole = {**{key: value for key, value in values.items() if key.lower() not in keys}, **filled}
    try:
        return whole, jsontext.encode(whole).encode(), list(filled)
    except RecursionError:
        raise CniError(INVALID_CONFIG, f"with {path!r} the network configuration is nested too deeply") from None


def _is_left_out(values: dict[str, Any], key: str) -> bool:
    if key.lower() in _NOT_COMMON:
        return False
    own = lookup(values, key)
    return own in (None, "", [], {}) or (own == 0 and key.lower() in _ZERO_IS_NONE)


def read(path: str) -> dict[str, Any]:
    """The object in a flat file.

    Args:
        path: absolute; a symbolic link is followed, as those of a mounted ConfigMap are.

    Raises:
        CniError: INVALID_CONFIG, when it cannot be read, is no JSON object, or others than root can write to it: they
            could choose bridge, VLAN and database of every container.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not stop us.
        file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            _refuse_others(path, posix.fstat(file))
            data = b""
            while chunk := posix.read(file, _LARGEST):
                data += chunk
                if len(data) > _LARGEST:
                    raise CniError(INVALID_CONFIG, f"configuration file {path!r} is larger than {_LARGEST} bytes")
        finally:
            posix.close(file)
    except OSError as error:
        raise CniError(INVALID_CONFIG, f"configuration file {path!r} cannot be read: {error.strerror}") from error
    try:
        values = jsontext.decode(data)
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"configuration file {path!r} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise CniError(INVALID_CONFIG, f"configuration file {path!r} must be an object: {jsontext.shown(values)}")
    return values


def _refuse_others(path: str, status: posix.stat_result) -> None:
    if status.st_mode & _S_IFMT != _S_IFREG:
        raise CniError(INVALID_CONFIG, f"configuration file {path!r} is not a regular file")
    group_can_write = status.st_mode & _S_IWGRP and status.st_gid != 0
    if status.st_uid != 0 or status.st_mode & _S_IWOTH or group_can_write:
        raise CniError(
            INVALID_CONFIG,
            f"configuration file {path!r} is refused, because others than root can write to it",
            f"chown root:root {path}; chmod 644 {path}",
        )
