"""The configurations of networks that this machine's files have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cni_ovs.plugin.config import lookup

from . import runtime_files


@dataclass
class Networks:
    """What the files say.

    Attributes:
        by_name: the configuration of the plugin `ovs`, by name of the network, as a runtime gives it to the plugin.
        unreadable: files that are none, with what is wrong.
    """

    by_name: dict[str, dict[str, Any]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def read(folders: Sequence[str]) -> Networks:
    """Every configuration; of several with one name the first counts, by name of the file, as for a runtime."""
    networks = Networks()
    for file in runtime_files.read(folders):
        if file.error:
            networks.unreadable.append(f"{file.path} {file.error}")
        for plugin in file.plugins:
            if lookup(plugin, "type") == "ovs" and file.name:
                networks.by_name.setdefault(file.name, plugin)
    return networks
