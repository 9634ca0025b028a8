"""Network configurations as runtimes read them: files in folders, each with one plugin or a list of them."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_ovs.plugin import flatfile, forms
from cni_ovs.plugin.config import DEFAULT_SOCKET, lookup, usual_flat_file
from cni_ovs.plugin.errors import CniError

from .mistakes import TYPES, of_plugin
from .source import RUNTIME_ENDINGS

CONTAINERD = Path("/etc/containerd/config.toml")
_LARGEST = 1 << 20  # bytes; what is larger is no network configuration


@dataclass(frozen=True)
class ConfigurationFile:
    """A file with a network configuration.

    Attributes:
        path: of the file.
        error: why it cannot be used; "" if it can.
        name: of the network; "" if it has none.
        plugins: the configuration of each plugin, with name and cniVersion as a runtime adds them.
    """

    path: Path
    error: str
    name: str
    plugins: list[dict[str, Any]]

    @property
    def ours(self) -> list[dict[str, Any]]:
        """Those of its plugins that are ours."""
        return [plugin for plugin in self.plugins if lookup(plugin, "type") in TYPES]


def read(folders: Iterable[str]) -> list[ConfigurationFile]:
    """Every file that a runtime would look at, by folder and name."""
    found = []
    for folder in folders:
        try:
            paths = sorted(path for path in Path(folder).iterdir() if path.suffix in RUNTIME_ENDINGS)
        except OSError:  # not there, or not ours to read: other folders matter
            continue
        found += [_read(path) for path in paths if not path.is_dir()]
    return found


def mistakes(plugin: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Why the plugin would refuse its part of a configuration, and what it would ignore."""
    # A device plugin, or OVN, may say which bridge it is.
    found, _ = of_plugin(plugin, gets_device=True)
    told = [
        (mistake, f"{mistake.message}; {mistake.remedy}" if mistake.remedy else mistake.message) for mistake in found
    ]
    ignored = [text for mistake, text in told if mistake.on_key or mistake.severity == "warning"]
    return [text for _, text in told if text not in ignored], ignored


def whole(plugin: dict[str, Any]) -> dict[str, Any]:
    """A configuration, and what it leaves out as the flat file has it; nothing of a flat file that cannot be used."""
    path = string(plugin, "configuration_path") or usual_flat_file()
    try:
        return flatfile.fill_up(plugin, b"", path)[0] if path else plugin
    except (CniError, ValueError):  # a check of its own tells
        return plugin


def is_for(plugin: dict[str, Any], address: str) -> bool:
    """Whether a configuration, which is whole, is for the Open vSwitch of this address, and not for another one."""
    try:
        named = forms.socket_file(string(plugin, "socket_file") or DEFAULT_SOCKET)
    except ValueError:
        return False
    kind, _, path = named.partition(":")
    if kind != "unix" or not address.startswith("unix:"):
        return named == address
    return os.path.realpath(path) == os.path.realpath(address.removeprefix("unix:"))


def string(plugin: dict[str, Any], *keys: str) -> str:
    """The text at some keys, one inside the other; "" if there is none."""
    value: Any = plugin
    for key in keys:
        value = lookup(value, key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def containerd() -> dict[str, list[Any]] | None:
    """What containerd's configuration says of networks, each key with all its values; None if it has no pods.

    The keys are `bin_dir`, `bin_dirs` and `max_conf_num` of its CRI plugin, wherever its version has them.
    """
    try:
        settings = tomllib.loads(CONTAINERD.read_text())
    except (OSError, ValueError):  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        return None
    disabled = settings.get("disabled_plugins")
    if isinstance(disabled, list) and any(str(name).rpartition(".")[2] == "cri" for name in disabled):
        return None  # as Docker has it
    found: dict[str, list[Any]] = {"bin_dir": [], "bin_dirs": [], "max_conf_num": []}
    _collect(settings, found)
    return found


def containerd_bin_dirs() -> list[str]:
    """The plugin folders that containerd's configuration names."""
    found = containerd() or {}
    folders = [*found.get("bin_dir", []), *(folder for value in found.get("bin_dirs", []) for folder in value or [])]
    return list(dict.fromkeys(folder for folder in folders if isinstance(folder, str) and folder))


def _collect(value: Any, found: dict[str, list[Any]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in found:
                found[key].append(inner)
            _collect(inner, found)


def _read(path: Path) -> ConfigurationFile:
    try:
        if not path.is_file():
            return ConfigurationFile(path, "it is no regular file", "", [])
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        values = json.loads(data)
    except OSError as error:
        return ConfigurationFile(path, f"it cannot be read: {error.strerror}", "", [])
    except (ValueError, RecursionError) as error:
        return ConfigurationFile(path, f"it is no valid JSON: {error}", "", [])
    if not isinstance(values, dict):
        return ConfigurationFile(path, "it is no JSON object", "", [])
    listed = lookup(values, "plugins")
    plugins = [values] if listed is None else listed
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        return ConfigurationFile(path, "its 'plugins' are no list of objects", "", [])
    name = lookup(values, "name")
    common = {key: values[key] for key in ("name", "cniVersion") if key in values}
    return ConfigurationFile(
        path, "", name if isinstance(name, str) else "", [{**plugin, **common} for plugin in plugins]
    )
