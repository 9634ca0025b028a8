"""Network configurations in files: where they are, what they say, and what is wrong with them.

A file has one configuration or list (`.conf`, `.json`, `.conflist`: what runtimes and Multus read from a folder), is a
flat file (plugin/flatfile.py), or has Kubernetes objects, of which NetworkAttachmentDefinitions count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cni_ovs.plugin import flatfile
from cni_ovs.plugin.config import FLAT_FILES, KEYS, MIRRORS, lookup
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.jsontext import shown
from cni_ovs.plugin.spelling import nearest

from ..failure import Failure
from . import jsonplaces, manifests, mistakes, source
from .jsonplaces import JsonError, Places
from .manifests import Embedded
from .mistakes import TYPES, Mistake
from .source import Problem, Source

FOLDERS = source.FOLDERS
_JSON = source.RUNTIME_ENDINGS
_YAML = (".yaml", ".yml")
_MOST_DUPLICATES = 100  # that are worth a line each
_FLAT = "ovs.d"  # the folder of flat files
# Of the marker of ovs-cni: resources that are bridges. Others are of device plugins, which give a container a VF.
BRIDGE_RESOURCE = "ovs-cni.network.kubevirt.io/"


@dataclass(frozen=True)
class Configuration:
    """A network configuration, a list of them, or a flat file.

    Attributes:
        source: the text that it is in.
        values: what it says; hardly anything is sure of it.
        places: where that is.
        embedded: the NetworkAttachmentDefinition that it is in; None if it is a file by itself.
        is_flat: whether it is a flat file.
    """

    source: Source
    values: Any
    places: Places
    embedded: Embedded | None = None
    is_flat: bool = False

    @property
    def name(self) -> str:
        """Of the network; "" if it has none."""
        found = lookup(self.values, "name") if isinstance(self.values, dict) else None
        if not found and self.embedded is not None:
            return self.embedded.name.rpartition("/")[2]  # as Multus does
        return found if isinstance(found, str) else ""

    @property
    def is_list(self) -> bool:
        """Whether it is a list of plugins."""
        return isinstance(self.values, dict) and "plugins" in self.values

    @property
    def plugins(self) -> list[tuple[mistakes.Path, dict[str, Any]]]:
        """The configuration of each plugin as it receives it, and where it is; without what is none."""
        if not isinstance(self.values, dict):
            return []
        common: dict[str, Any] = {"name": self.name} if self.name else {}
        if not self.is_list:
            return [((), {**self.values, **(common if not lookup(self.values, "name") else {})})]
        common |= {"cniVersion": self.values.get("cniVersion")}
        items = self.values["plugins"]
        found = enumerate(items) if isinstance(items, list) else ()
        return [(("plugins", number), {**item, **common}) for number, item in found if isinstance(item, dict)]

    def ours(self) -> list[dict[str, Any]]:
        """The configurations of the plugin `ovs`, as a runtime would give them to it.

        Raises:
            Failure: it has none.
        """
        plugins = [plugin for _, plugin in self.plugins]
        found = [plugin for plugin in plugins if lookup(plugin, "type") == "ovs"]
        if not found:
            kinds = sorted({shown(lookup(plugin, "type")) for plugin in plugins})
            what = f"{self.source.name} has no network configuration of type 'ovs'"
            raise Failure(what, f"found: {', '.join(kinds)}" if kinds else "")
        return found

    def span(self, path: mistakes.Path, *, on_key: bool = False) -> tuple[int, int]:
        """Where a value, or its key, is in the source; where it is not, what it would be in."""
        while (node := self.places.root.find(path)) is None:
            path = path[:-1]
        start, end = node.key if on_key and node.key is not None else (node.start, node.end)
        return self.place(start), self.place(end)

    def place(self, offset: int) -> int:
        """Where a character of the configuration is in the source."""
        return offset if self.embedded is None else self.embedded.place(offset)

    def problem(self, mistake: Mistake, inside: mistakes.Path = ()) -> Problem:
        """A mistake in (a part of) it as a problem of its source."""
        path = (*inside, *mistake.path)
        if self.is_list and mistake.path[:1] in (("name",), ("cniVersion",)):
            path = mistake.path  # a runtime gives it to each plugin
        start, end = self.span(path, on_key=mistake.on_key)
        if not mistake.path or self.places.root.find(path) is None:
            end = start + 1  # all of it would be too much
        return self.source.problem(start, mistake.message, mistake.remedy, severity=mistake.severity, end=end)


def problems_of(text: Source) -> list[Problem]:
    """What is wrong in a text, in the order of its lines."""
    return examined(text)[1]


def examined(text: Source) -> tuple[int, list[Problem]]:
    """How many configurations a text has, and what is wrong in it."""
    configurations, found = read(text)
    for configuration in configurations:
        found += _check(configuration)
    in_order = sorted(
        dict.fromkeys(found), key=lambda problem: (problem.path != text.name, problem.line, problem.column)
    )
    return len(configurations), in_order


def read(text: Source) -> tuple[list[Configuration], list[Problem]]:
    """The configurations in a text, and why there are not more."""
    if not _is_json(text):
        return _in_manifests(text)
    found = [text.problem(0, "it begins with a byte order mark", "save it without one")] if text.mark else []
    try:
        places = jsonplaces.read(text.text)
    except JsonError as error:
        return [], [*found, text.problem(error.offset, str(error), error.remedy)]
    values = places.values
    if isinstance(values, dict) and "kind" in values and "apiVersion" in values:
        # A tab is white space in JSON, and an error in YAML; it cannot be in a string.
        return _in_manifests(text, Source(text.name, text.text.replace("\t", " ")))
    return [Configuration(text, values, places, is_flat=_is_flat(text, values))], found


def files(path: str) -> list[str]:
    """A file, or what is in a folder: as a runtime reads it, and Kubernetes objects.

    Raises:
        Failure: nothing is there, or no configuration is in the folder.
    """
    if path == source.STDIN or not os.path.isdir(path):
        return [path]
    try:
        found = [*_folder(path, _JSON + _YAML), *_folder(os.path.join(path, _FLAT), _JSON)]
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    if not found:
        raise Failure(
            f"no network configuration is in {path}", f"they are called {', '.join('*' + end for end in _JSON + _YAML)}"
        )
    return found


def in_folders(folders: Iterable[str] = FOLDERS) -> list[str]:
    """The files in those of these folders that exist.

    Raises:
        Failure: there are none.
    """
    found = [file for folder in folders if os.path.isdir(folder) for file in _folder(folder, _JSON)]
    found += [file for folder in folders for file in _folder(os.path.join(folder, _FLAT), _JSON)]
    if not found:
        raise Failure(f"no network configuration is in {' or '.join(folders)}", "name a file or a folder")
    return found


def find(name: str, folders: Iterable[str] = FOLDERS) -> Configuration:
    """The configuration of a network: the first file by name that has it, as a runtime and Multus take it.

    Raises:
        Failure: there is none.
    """
    known: list[str] = []
    broken: list[str] = []
    for folder in folders:
        for file in _folder(folder, _JSON):
            try:
                configurations, found = read(source.read(file))
            except Failure:
                broken.append(file)
                continue
            broken += [file] if found else []
            for configuration in configurations:
                if configuration.name == name and configuration.embedded is None:
                    return configuration
                known += [configuration.name] if configuration.name not in ("", *known) else []
    meant = nearest(name, known)
    remedy = f"did you mean {meant!r}?" if meant else f"there are {', '.join(map(repr, known[:20]))}" if known else ""
    if broken:
        remedy = f"{broken[0]} cannot be read: see `cni-ovs validate`"
    raise Failure(f"no network {name!r} is in {' or '.join(folders)}", remedy)


def meant(word: str, folders: Iterable[str] = FOLDERS) -> Configuration:
    """What somebody calls so: the only configuration in a file or on stdin ("-"), or that of a network, by its name.

    Raises:
        Failure: there is none, or more than one.
    """
    if word != source.STDIN and "/" not in word and not os.path.exists(word):
        return find(word, folders)
    text = source.read(word)
    found, wrong = read(text)
    if len(found) > 1:
        raise Failure(f"{text.name} has {len(found)} network configurations", "give one of them on stdin, as `-`")
    if not found:
        reason = f"{wrong[0].line}:{wrong[0].column}: {wrong[0].message}" if wrong else "it has none"
        raise Failure(f"{text.name} has no network configuration: {reason}", wrong[0].remedy if wrong else "")
    return found[0]


def _folder(path: str, ends: tuple[str, ...]) -> Iterator[str]:
    """The files of a folder with such a name, by name; none if there is no folder."""
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            file = os.path.join(path, name)
            if name.endswith(ends) and not os.path.isdir(file):
                yield file


def _is_json(text: Source) -> bool:
    if text.name.endswith(_JSON + _YAML):
        return text.name.endswith(_JSON)
    return text.text.lstrip()[:1] in ("{", "[")


def _is_flat(text: Source, values: Any) -> bool:
    if text.path is None or text.path.parent.name == "net.d":
        return False
    is_a_network = isinstance(values, dict) and any(lookup(values, key) for key in ("name", "type", "plugins"))
    return text.path.parent.name == _FLAT or (isinstance(values, dict) and not is_a_network)


def _in_manifests(text: Source, yaml: Source | None = None) -> tuple[list[Configuration], list[Problem]]:
    """The configurations in Kubernetes objects, which are read from a YAML text of the same length, if there is one."""
    definitions, found = manifests.read(yaml or text)
    configurations = []
    for embedded in definitions:
        try:
            places = jsonplaces.read(embedded.text)
        except JsonError as error:
            place = embedded.place(error.offset)
            found.append(text.problem(place, f"'spec.config' of {embedded.name!r}: {error}", error.remedy))
            continue
        configurations.append(Configuration(text, places.values, places, embedded))
    return configurations, found


def _check(configuration: Configuration) -> list[Problem]:
    """What is wrong with one configuration."""
    twice = "the object has it already, and the last one counts"
    found = [
        configuration.source.problem(
            configuration.place(start), f"{key!r} is there twice", twice, end=configuration.place(end)
        )
        for start, end, key in configuration.places.duplicates[:_MOST_DUPLICATES]
    ]
    values = configuration.values
    if not isinstance(values, dict):
        return [*found, configuration.problem(Mistake((), f"it must be an object: {shown(values)}"))]
    if configuration.is_flat:
        return found + _check_flat_file(configuration)
    if configuration.is_list:
        found += [configuration.problem(mistake) for mistake in _of_list(values)]
    before: list[dict[str, Any]] = []
    for path, plugin in configuration.plugins:
        found += [configuration.problem(mistake, path) for mistake in _of_chain(before, plugin)]
        if lookup(plugin, "type") in TYPES:
            found += _check_ours(configuration, path, plugin)
        before.append(plugin)
    return found


def _check_ours(configuration: Configuration, path: mistakes.Path, plugin: dict[str, Any]) -> list[Problem]:
    resource = configuration.embedded.resource if configuration.embedded is not None else None
    gets_device = resource is not None and not resource[0].startswith(BRIDGE_RESOURCE)
    wrong, flat_file = mistakes.of_plugin(plugin, gets_device=gets_device)
    found = [configuration.problem(mistake, path) for mistake in wrong]
    # It is named as the plugin reads it, so whatever it is called, and wherever it is, it is one.
    return found + (_problems_of_flat_file(flat_file) if flat_file else [])


def _problems_of_flat_file(path: str) -> list[Problem]:
    try:
        text = source.read(path)
        places = jsonplaces.read(text.text)
    except (Failure, JsonError):
        return []  # the plugin has said so
    return _check(Configuration(text, places.values, places, is_flat=True))


def _check_flat_file(configuration: Configuration) -> list[Problem]:
    found = [configuration.problem(mistake) for mistake in mistakes.of_flat_file(configuration.values)]
    if configuration.source.name in FLAT_FILES:
        try:
            flatfile.read(configuration.source.name)
        except CniError as error:
            found.append(configuration.source.problem(None, error.msg, error.details))
    return found


def _of_list(values: dict[str, Any]) -> list[Mistake]:
    """The mistakes in a list itself."""
    plugins = values["plugins"]
    found = []
    if not isinstance(plugins, list) or not plugins:
        found.append(Mistake(("plugins",), f"invalid 'plugins': {shown(plugins)}: must be a list of objects"))
        plugins = []
    for number, item in enumerate(plugins):
        if not isinstance(item, dict):
            what = f"invalid 'plugins[{number}]': {shown(item)}: must be an object"
            found.append(Mistake(("plugins", number), what))
    for key in values:
        if key in KEYS and key not in ("name", "cniVersion", "capabilities"):
            what = f"{key!r} in front of a list's 'plugins' reaches no plugin"
            found.append(Mistake((key,), what, "put it into the object of the plugin", on_key=True))
    if not values.get("name") and not any(isinstance(item, dict) and lookup(item, "type") in TYPES for item in plugins):
        found.append(Mistake((), "'name' is missing in the network configuration list"))
    return found


def _of_chain(before: list[dict[str, Any]], plugin: dict[str, Any]) -> list[Mistake]:
    """The mistakes of a plugin, ours or not, at its place behind others."""
    kind = lookup(plugin, "type")
    if not isinstance(kind, str) or not kind:
        what = "'type' is missing" if kind in (None, "") else f"invalid 'type': {shown(kind)}: must be a string"
        meant = nearest("type", [key for key in plugin if key not in KEYS])
        return [Mistake(("type",), what, f"did you write {meant!r}?" if meant else "name the plugin")]
    if kind not in MIRRORS:
        meant = nearest(kind, TYPES) if kind.startswith(("ovs-mirror", "ovs_mirror")) else None
        return [Mistake(("type",), f"there is no plugin {kind!r}", f"did you mean {meant!r}?")] if meant else []
    ours = [other for other in before if lookup(other, "type") == "ovs"]
    if not ours:
        return [Mistake(("type",), f"{kind!r} goes behind 'ovs' in a chain", "put both into a list's 'plugins'")]
    bridges = [lookup(one, "bridge") for one in (ours[-1], plugin)]
    if all(isinstance(name, str) and name for name in bridges) and bridges[0] != bridges[1]:
        what = f"'bridge' {bridges[1]!r} is not that of 'ovs' before it, {bridges[0]!r}, which has the port"
        return [Mistake(("bridge",), what)]
    return []
