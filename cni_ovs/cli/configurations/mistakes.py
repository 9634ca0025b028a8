"""Every mistake in the configuration of one plugin of ours, not only the first: what ADD would refuse or ignore.

The plugin's own code reads the configuration (plugin/config.py), through a reader that goes on after a mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cni_ovs.plugin import config as network_config
from cni_ovs.plugin import flatfile, forms, unknown_keys
from cni_ovs.plugin.config import INSIDE, KEYS, MIRRORS, NetworkConfig, Reader, find_form, lookup
from cni_ovs.plugin.errors import INVALID_CONFIG, CniError
from cni_ovs.plugin.jsontext import shown
from cni_ovs.plugin.protocol import SUPPORTED_VERSIONS
from cni_ovs.plugin.result import needs_address

Path = tuple[str | int, ...]  # to a value: keys, and numbers in lists
TYPES = ("ovs", *MIRRORS)  # of plugin, that are ours
_MOST = 100  # mistakes of one kind that are worth a line each
# What a flat file says that is not taken from it: see plugin/flatfile.py.
_NOT_COMMON = ("cniVersion", "name", "type", "prevResult", "args", "runtimeConfig", "capabilities")


@dataclass(frozen=True)
class Mistake:
    """Something wrong in the configuration of a plugin.

    Attributes:
        path: to the value that is wrong, as its keys are written; where it is missing, to what it is missing in.
        message, remedy, severity: as of source.Problem.
        on_key: it is the key that is wrong.
    """

    path: Path
    message: str
    remedy: str = ""
    severity: str = "error"
    on_key: bool = False


def of_plugin(values: dict[str, Any], *, gets_device: bool = False) -> tuple[list[Mistake], str]:
    """The mistakes in the configuration of a plugin, as it receives it, and the path of the flat file that it reads.

    Args:
        values: with `name` and `cniVersion`.
        gets_device: the runtime will add a `deviceID`.
    """
    reader = _Collector(values, [])
    found = reader.found
    flat_file = reader.read("configuration_path", "") or network_config.usual_flat_file()
    whole, filled, is_there = _fill_up(reader, values, flat_file)
    reader = _Collector(whole, found)
    reader.read("log_level", "info")
    reader.read("log_file", None)
    config = NetworkConfig()
    config.values, config.raw = whole, b""
    config.name, config.type = lookup(values, "name"), lookup(values, "type") or "ovs"
    network_config.fill(config, reader, whole, "")
    _check_identity(reader, whole, config)
    if not is_there:  # it may have what is missing here
        sure = [entry for entry in found if entry.msg.startswith("invalid ") or entry.key == "configuration_path"]
        found[:] = sure + [entry for entry in found if entry.severity == "warning" and entry not in sure]
    if gets_device:
        found[:] = [entry for entry in found if not _is_missing(entry, "bridge")]
    mistakes = [mistake for entry in found if entry.top not in filled for mistake in _mistakes(entry, values)]
    return _unknown(values) + mistakes, flat_file if is_there else ""


def of_flat_file(values: dict[str, Any]) -> list[Mistake]:
    """The mistakes in a flat file, of which each value is looked at by itself."""
    reader = _Collector(values, [])
    for key, form in KEYS.items():
        if form != "anything":
            reader.read(key, None)
    ipam = lookup(values, "ipam")
    if isinstance(ipam, dict):
        reader.inside("ipam", ipam).read("type", None)
    mistakes = [mistake for entry in reader.found for mistake in _mistakes(entry, values)]
    ignored = [key for key in values if key.lower() in {name.lower() for name in _NOT_COMMON}]
    mistakes += [
        Mistake((key,), f"{key!r} is not taken from a flat file", "remove it", "warning", on_key=True)
        for key in ignored
    ]
    return _unknown(values) + mistakes


@dataclass
class _Found:
    """What a reader has found; see CniError."""

    msg: str
    details: str
    key: str
    severity: str

    @property
    def top(self) -> str:
        """The key of the configuration, of which `key` may be inside."""
        return self.key.partition(".")[0].lower()


class _Collector(Reader):
    """A reader that notes what is wrong, and goes on with the default."""

    def __init__(self, values: dict[str, Any], found: list[_Found], where: str = "") -> None:
        super().__init__(values, False, where)
        self.found = found

    def inside(self, key: str, values: dict[str, Any]) -> Reader:
        return _Collector(values, self.found, f"{key}.")

    def attempt(self, default: Any, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except CniError as error:
            if not self._follows(error):
                self.found.append(_Found(error.msg, error.details, error.key, "error"))
            return default

    def warn(self, text: str, key: str) -> None:
        if not any(entry.top == key for entry in self.found):
            self.found.append(_Found(text, "", key, "warning"))

    def _follows(self, error: CniError) -> bool:
        """Whether an error is there only because another value is wrong, which counts as absent then."""
        wrong = {entry.key.partition(".")[0] for entry in self.found if entry.severity == "error"} - {""}
        if error.key == "bridge" and "deviceID" in wrong:
            return True
        return any(f"{key!r}" in error.msg for key in wrong if key != error.key.partition(".")[0])


def _fill_up(reader: _Collector, values: dict[str, Any], flat_file: str) -> tuple[dict[str, Any], set[str], bool]:
    """The configuration with what it takes from a flat file; the keys of that; whether all is there that will be."""
    if not flat_file:
        return values, set(), True
    if not os.path.lexists(flat_file):
        where = f"{flat_file!r} is not on this machine, so what it says was not looked at"
        reader.warn(f"'configuration_path': {where}", "configuration_path")
        return values, set(), False
    try:
        whole, _, filled = flatfile.fill_up(values, b"", flat_file)
    except CniError as error:
        reader.found.append(_Found(error.msg, error.details, "configuration_path", "error"))
        return values, set(), False
    return whole, {key.lower() for key in filled}, True


def _check_identity(reader: _Collector, values: dict[str, Any], config: NetworkConfig) -> None:
    """What protocol.py looks at, and add.py with it."""

    def name() -> None:
        given = lookup(values, "name")
        if given in (None, ""):
            raise CniError(INVALID_CONFIG, "'name' is missing in the network configuration", key="name")
        if not isinstance(given, str) or not forms.is_identifier(given):
            hint = "begin with a letter or digit, and go on with letters, digits, '_', '.' and '-'"
            raise CniError(INVALID_CONFIG, f"invalid 'name': {shown(given)}", hint, "name")

    def version() -> None:
        given = lookup(values, "cniVersion")
        meant = given if given not in (None, "") else "0.1.0"
        if meant not in SUPPORTED_VERSIONS:
            what = f"invalid 'cniVersion': {shown(given)}: must be one of {', '.join(SUPPORTED_VERSIONS)}"
            raise CniError(INVALID_CONFIG, what, key="cniVersion")
        if needs_address(meant) and config.ipam_type is None and config.type == "ovs":
            what = f"'cniVersion' {meant!r}" + ("" if meant == given else ", which it is if none is given,")
            what += " cannot express a result without an address, and 'ipam' is not set"
            raise CniError(INVALID_CONFIG, what, "use 0.3.0 or newer", "cniVersion")

    reader.attempt(None, name)
    reader.attempt(None, version)


def _is_missing(entry: _Found, key: str) -> bool:
    return entry.key == key and entry.msg == f"{key!r} is missing in the network configuration"


def _mistakes(entry: _Found, values: dict[str, Any]) -> list[Mistake]:
    """What was found, in the words and at the places that help most: each part of a value by itself."""
    path, value = _written(values, entry.key)
    remedy = entry.details
    if _is_missing(entry, "bridge"):
        remedy = 'name the bridge ("br-int", if CNI_ARGS will name a port of OVN)'
    start = f"invalid {entry.key!r}: "
    if entry.msg.startswith(start) and isinstance(value, (list, dict)):
        whole = entry.msg.removeprefix(f"{start}{shown(value)}: ")
        parts = [part for part in _parts(entry.key, value, values) if isinstance(value, list) or part[2] == whole]
        if parts:
            return [
                Mistake((*path, key), f"invalid {entry.key + name!r}: {_with_value(key, wrong, text)}", remedy)
                for key, wrong, text in parts
                for name in [f"[{key}]" if isinstance(key, int) else f".{key}"]
            ]
    return [Mistake(path, entry.msg, remedy, entry.severity)]


def _with_value(key: str | int, value: Any, text: str) -> str:
    """Why a part of a value is wrong, with the part, which may be in the text already."""
    text = text.removeprefix(f"{key!r}: ")
    return text if text.startswith(f"{shown(value)}: ") else f"{shown(value)}: {text}"


def _parts(name: str, value: Any, values: dict[str, Any]) -> list[tuple[str | int, Any, str]]:
    """The elements of a list, or the members of an object, that are wrong also alone: key, value, and why."""
    forms_of = {**KEYS, **INSIDE, "mirrors": MIRRORS.get(str(lookup(values, "type")), "anything")}
    convert = find_form(forms_of[name])
    alone: list[tuple[str | int, Any, Any]] = (
        [(number, part, [part]) for number, part in enumerate(value)]
        if isinstance(value, list)
        else [(key, part, {key: part}) for key, part in value.items()]
    )
    found = []
    for key, part, single in alone:
        try:
            convert(single)
        except ValueError as error:
            found.append((key, part, str(error)))
            if len(found) == _MOST:
                break
    return found


def _written(values: dict[str, Any], name: str) -> tuple[Path, Any]:
    """The path of a key as it is written, as far as it is there, and its value."""
    path: list[str | int] = []
    current: Any = values
    for part in name.split(".") if name else []:
        if not isinstance(current, dict):
            break
        key = part if part in current else next((key for key in current if key.lower() == part.lower()), None)
        if key is None:
            break
        path.append(key)
        current = current[key]
    return tuple(path), current


def _unknown(values: dict[str, Any]) -> list[Mistake]:
    """Keys that nobody knows, and those that are there twice in different cases."""
    found = []
    unknown = unknown_keys.find(values)
    for key in unknown[:_MOST]:
        try:
            unknown_keys.refuse(key)
            message, _, remedy = unknown_keys.told(key).partition("; ")
        except CniError as error:
            message, remedy = error.msg, ""
        found.append(Mistake((key,), message, remedy, on_key=True))
    if len(unknown) > _MOST:
        found.append(Mistake((unknown[_MOST],), f"and {len(unknown) - _MOST} more unknown keys", on_key=True))
    first: dict[str, str] = {}
    twice = [(key, first.setdefault(key.lower(), key)) for key in values]
    found += [
        Mistake((key,), f"{key!r} is {other!r} in another case: the same key", "remove one of them", on_key=True)
        for key, other in twice
        if key != other
    ][:_MOST]
    return found
