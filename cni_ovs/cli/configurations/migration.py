"""Network definitions of ovs-cni: what becomes of each key here, and what has to be changed so that they mean the same.

What ovs-cni ignores, and this plugin does not, is taken out of the text; all else in it stays, to the character.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from cni_ovs.plugin.config import KEYS, lookup
from cni_ovs.plugin.forms import is_integer

from ..failure import Failure
from . import files as configurations
from . import mistakes
from .files import BRIDGE_RESOURCE, Configuration
from .jsonplaces import Node
from .mistakes import TYPES, Mistake
from .ovs_cni import DIFFERENCES, THEIRS
from .source import Problem, Source

CHANGE, DIFFERS, ERROR = "change", "differs", "error"
_LOWER = {name.lower() for name in (*KEYS, "mirrors")}
_OURS = _LOWER - {name.lower() for name in THEIRS}
_LONGEST_TRUNK = 10_000  # items; there are 4095 VLANs


@dataclass(frozen=True)
class Finding:
    """A key that does not just mean the same; "" if it is no key."""

    key: str
    problem: Problem


@dataclass
class Migration:
    """What becomes of a network definition.

    Attributes:
        name: of the network, with its namespace if it has one; of a flat file "".
        keeps: the keys that mean the same.
        findings: the others: what is to be changed, what differs, and what only a person can change (errors).
    """

    name: str
    keeps: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Migrated:
    """What becomes of a text.

    Attributes:
        definitions: those of our plugins in it.
        text: in which all is changed that can be.
    """

    definitions: list[Migration]
    text: str


def migrate(text: Source) -> Migrated:
    """What becomes of the network definitions in a text; those of plugins of others are passed over.

    Raises:
        Failure: it cannot be rewritten, although it should be possible.
    """
    found, problems = configurations.read(text)
    definitions = [Migration("", [], [Finding("", problem) for problem in problems])] if problems else []
    gone: list[tuple[int, int]] = []
    expected: list[Any] = []
    for configuration in found:
        definition = Migration(configuration.embedded.name if configuration.embedded else configuration.name)
        values = _copy(configuration.values)
        removed: list[mistakes.Path] = []
        parts = _plugins(configuration)
        for path, plugin in parts:
            removed += _migrate(configuration, path, plugin, definition)
        if configuration.embedded is not None and configuration.embedded.resource is not None and parts:
            _tell_of_resource(configuration, definition)
        can_be = configuration.embedded is None or configuration.embedded.offsets is not None
        if removed and (not can_be or configuration.places.duplicates):
            what = "it is written so that it cannot be changed safely"
            definition.findings.append(Finding("", configuration.problem(Mistake((), what, "change it by hand"))))
            removed = []
        for place in sorted(removed, key=_order, reverse=True):
            _remove(values, place)
        gone += [
            (configuration.place(start), configuration.place(end))
            for start, end in _ranges(configuration.places.root, removed)
        ]
        expected.append(values)
        definitions += [definition] if parts else []
    changed = _without(text.text, gone)
    if gone and not _says(Source(text.name, changed, text.mark), expected):
        raise Failure(f"{text.name} cannot be rewritten: what comes out would be wrong", "change it by hand")
    return Migrated(definitions, changed)


def _says(text: Source, expected: list[Any]) -> bool:
    """Whether the configurations in a text are these."""
    found, _ = configurations.read(text)
    try:
        return [configuration.values for configuration in found] == expected
    except RecursionError:
        return False


def _plugins(configuration: Configuration) -> list[tuple[mistakes.Path, dict[str, Any]]]:
    """The parts of a configuration that are ours."""
    if configuration.is_flat:
        return [((), configuration.values)] if isinstance(configuration.values, dict) else []
    return [(path, plugin) for path, plugin in configuration.plugins if lookup(plugin, "type") in TYPES]


def _migrate(
    configuration: Configuration, path: mistakes.Path, plugin: dict[str, Any], definition: Migration
) -> list[mistakes.Path]:
    """Tell what becomes of each key of a plugin; returns what is to be removed."""
    told: list[Finding] = []

    def tell(mistake: Mistake) -> None:
        told.append(Finding(str(mistake.path[0]) if mistake.path else "", configuration.problem(mistake, path)))

    ignored = _ignored(plugin)
    after = _copy(plugin)
    for place, why in sorted(ignored, key=lambda entry: _order(entry[0]), reverse=True):
        remedy = 'to have that, add "vlan_mode": "native-untagged"' if len(place) == 1 else ""
        tell(Mistake(place, why, remedy, CHANGE, on_key=len(place) == 1))
        _remove(after, place)
    for mistake in mistakes.of_flat_file(after) if configuration.is_flat else _wrong(configuration, after):
        tell(_renumbered(mistake, plugin, ignored))
    for key, why in _differences(after):
        tell(Mistake((key,), f"{key!r}: {why}", severity=DIFFERS, on_key=True))
    written = configuration.values["plugins"][path[1]] if path else configuration.values
    touched = {finding.key for finding in told}
    definition.keeps += [
        key
        for key in (*(configuration.values if path else ()), *written)
        if key.lower() in _LOWER and key not in touched and key not in definition.keeps
    ]
    definition.findings += sorted(told, key=lambda finding: (finding.problem.line, finding.problem.column))
    return [(*path, *place) for place, _ in ignored]


def _wrong(configuration: Configuration, plugin: dict[str, Any]) -> list[Mistake]:
    """What ADD would refuse; what nobody knows, both plugins ignore, and validate tells of it."""
    resource = configuration.embedded.resource if configuration.embedded is not None else None
    gets_device = resource is not None and not resource[0].startswith(BRIDGE_RESOURCE)
    found, _ = mistakes.of_plugin(plugin, gets_device=gets_device)
    return [
        mistake for mistake in found if mistake.severity == "error" and not mistake.message.startswith("unknown key")
    ]


def _renumbered(mistake: Mistake, plugin: dict[str, Any], ignored: list[tuple[mistakes.Path, str]]) -> Mistake:
    """A mistake in what is left, where it is in what is there."""
    trunk = _key(plugin, "trunk")
    if mistake.path[:1] != (trunk,) or len(mistake.path) < 2:
        return mistake
    gone = {place[1] for place, _ in ignored if len(place) == 2}
    kept = [number for number in range(len(plugin[trunk])) if number not in gone]
    number = int(mistake.path[1])
    message = mistake.message.replace(f"trunk[{number}]", f"trunk[{kept[number]}]", 1)
    return dataclasses.replace(mistake, path=(trunk, kept[number], *mistake.path[2:]), message=message)


def _ignored(plugin: dict[str, Any]) -> list[tuple[mistakes.Path, str]]:
    """What ovs-cni ignores and this plugin does not: where it is, and why it is to go."""
    trunk, vlan = _key(plugin, "trunk"), _key(plugin, "vlan")
    items = plugin.get(trunk)
    # ovs-cni has no `vlan_mode`: whoever writes it means what is here.
    if (
        not isinstance(items, list)
        or not 0 < len(items) <= _LONGEST_TRUNK
        or lookup(plugin, "vlan_mode") not in (None, "")
    ):
        return []
    found: list[tuple[mistakes.Path, str]] = []
    whole = 0
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            return []
        limits = [key for key in item if key.lower() in ("minid", "maxid") and item[key] is not None]
        counts = [lookup(item, key) for key in ("minID", "maxID")]
        if all(is_integer(count) and count > 0 for count in counts) or (not limits and lookup(item, "id") is not None):
            continue
        if not all(count is None or (is_integer(count) and count >= 0) for count in counts):
            continue  # that is another mistake
        what = "'trunk': ovs-cni ignores a range without both ends, or from 0; --write removes it"
        if lookup(item, "id") is None:
            whole += 1
            found.append(((trunk, number), what))
        else:
            found += [((trunk, number, key), what) for key in limits]
    if whole == len(items):
        return []  # ovs-cni refuses that, too
    if plugin.get(vlan) is not None:
        what = f"{vlan!r}: ovs-cni ignores it beside 'trunk', here it would be the native VLAN; --write removes it"
        found.append(((vlan,), what))
    return found


def _differences(plugin: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for key, values, why in DIFFERENCES:
        written = _key(plugin, key)
        value = plugin.get(written)
        if value not in (None, "") and (not values or value in values):
            found.append((written, why.replace("`", "")))
    for key in plugin:
        if key.lower() in _OURS:
            found.append((key, "ovs-cni ignores it; here it counts"))
    return found


def _tell_of_resource(configuration: Configuration, definition: Migration) -> None:
    embedded = configuration.embedded
    if embedded is None or embedded.resource is None or not embedded.resource[0].startswith(BRIDGE_RESOURCE):
        return
    name, offset = embedded.resource
    what = f"resource {name!r} is counted by ovs-cni's marker, which has no counterpart here"
    remedy = "without the marker remove the annotation, or pods that ask for the resource stay pending"
    problem = configuration.source.problem(offset, what, remedy, severity=DIFFERS, end=offset + len(name))
    definition.findings.append(Finding("", problem))


def _key(plugin: dict[str, Any], name: str) -> str:
    """A key as it is written."""
    return name if name in plugin else next((key for key in plugin if key.lower() == name.lower()), name)


def _copy(value: Any, depth: int = 5) -> Any:
    """A copy of a value, as deep as anything is removed from it; what is deeper may be too deep to be copied."""
    if depth == 0 or not isinstance(value, (dict, list)):
        return value
    if isinstance(value, list):
        return [_copy(item, depth - 1) for item in value]
    return {key: _copy(item, depth - 1) for key, item in value.items()}


def _order(path: mistakes.Path) -> list[str]:
    return [str(part).zfill(9) for part in path]


def _remove(values: Any, path: mistakes.Path) -> None:
    for part in path[:-1]:
        values = values[part]
    del values[path[-1]]


def _ranges(root: Node, removed: list[mistakes.Path]) -> list[tuple[int, int]]:
    """The characters to take out of a JSON text so that these values are not in it."""
    found = []
    gone = set(removed)
    for parent in dict.fromkeys(path[:-1] for path in removed):
        node = root.find(parent)
        members = list(node.inner.items()) if node is not None else []
        spans = [(inner.key[0] if inner.key is not None else inner.start, inner.end) for _, inner in members]
        is_gone = [(*parent, name) in gone for name, _ in members]
        if all(is_gone):
            found.append((spans[0][0], spans[-1][1]))
            continue
        kept = is_gone.index(False)  # the first
        for number in [number for number, this in enumerate(is_gone) if this]:
            if number < kept:
                found.append((spans[number][0], spans[number + 1][0]))
            else:
                found.append((spans[number - 1][1], spans[number][1]))
    return found


def _without(text: str, ranges: list[tuple[int, int]]) -> str:
    for start, end in sorted(ranges, reverse=True):
        text = text[:start] + text[end:]
    return text
