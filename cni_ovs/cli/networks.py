"""The configurations of networks, as container runtimes find them: in files (CNI specification, section 1)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDERS = ("/etc/cni/net.d", "/etc/cni/multus/net.d")
BIN_FOLDERS = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"
_ENDINGS = (".conf", ".conflist", ".json")
_LARGEST = 4 << 20
_OURS = "ovs"


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
    for folder in folders:
        try:
            paths = sorted(path for path in Path(folder).iterdir() if path.suffix in _ENDINGS and path.is_file())
        except OSError:
            continue  # most nodes have but one of them
        for path in paths:
            try:
                values = _load(path)
            except (OSError, ValueError, RecursionError) as error:
                networks.unreadable.append(f"{path}: {error}")
                continue
            for name, config in _ours(values):
                networks.by_name.setdefault(name, config)
    return networks


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST} bytes")
    return json.loads(raw)


def _ours(values: Any, name: object = None, version: object = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configurations of our plugin in a file: it is one, or a list of plugins, or Multus's with its delegates."""
    if not isinstance(values, dict):
        return
    name, version = values.get("name", name), values.get("cniVersion", version)
    for key in ("plugins", "delegates"):
        inner = values.get(key)
        for one in inner if isinstance(inner, list) else ():
            # A delegate has a name of its own.
            yield from _ours(one, name, version)
    if values.get("type") == _OURS and isinstance(name, str):
        yield name, {**values, "name": name, **({"cniVersion": version} if version is not None else {})}
