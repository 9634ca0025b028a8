"""The files with network configurations, as runtimes read them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cni_ovs.plugin.config import lookup

from ...configurations.runtime_files import ConfigurationFile, containerd, mistakes, string
from ..examination import Check
from ..machine import Machine
from ..problems import FAULT, NOTE, WARNING, Finding, Problem, Skip

CONFIGURATION_UNUSABLE = Problem(
    "configuration_unusable",
    FAULT,
    "{file} cannot be used: {error}",
    "a mistake in the file; a runtime ignores it, or starts no pod at all",
    "correct the file",
)
CONFIGURATION_REFUSED = Problem(
    "configuration_refused",
    FAULT,
    "{file}: {error}",
    "a wrong value: no pod can be attached to this network",
    "correct the file, in which this shows each place",
    "cni-ovs validate {file}",
)
KEY_IGNORED = Problem(
    "key_ignored",
    WARNING,
    "{file}: {error}",
    "a typing mistake, or a key of another plugin",
    "correct the key, or remove it; this shows the place",
    "cni-ovs validate {file}",
)
NETWORK_TWICE = Problem(
    "network_twice",
    WARNING,
    "network {network} is in several files of {folder}: {files}",
    "a copy was left beside the file; who asks for the network by name gets the first",
    "remove those that are not wanted, or give them other names",
)
CONF_BESIDE_CONFLIST = Problem(
    "conf_beside_conflist",
    WARNING,
    "network {network} is in a .conflist and in another file of {folder}: {files}",
    "an older .conf was left beside it; by name the .conflist is taken, and by file name the first",
    "remove those that are not wanted",
)
CONFIGURATION_SHADOWED = Problem(
    "configuration_shadowed",
    NOTE,
    "containerd uses {first}, and not {file}",
    "containerd and CRI-O take the first file by name (Multus and podman take any by the network's name)",
    "if it is meant for all pods, give it a name that sorts first",
)
PLUGIN_NOT_THERE = Problem(
    "plugin_not_there",
    FAULT,
    "plugin {plugin}, which {file} needs, is not in {folders}",
    "it is not installed, or elsewhere",
    "install it there (Debian's containernetworking-plugins puts the usual ones into /usr/lib/cni)",
)


def usable(machine: Machine) -> Iterator[Finding]:
    """Every file can be read, and our plugin would take it."""
    for file in _files(machine):
        if file.error:
            yield CONFIGURATION_UNUSABLE.found(file=str(file.path), error=file.error)
            continue
        for plugin in file.ours:
            refused, ignored = mistakes(plugin)
            for problem, errors in ((CONFIGURATION_REFUSED, refused), (KEY_IGNORED, ignored)):
                if errors:
                    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
                    yield problem.found(file=str(file.path), error=errors[0] + more)


def unique(machine: Machine) -> Iterator[Finding]:
    """No network is in two files of a folder."""
    networks: dict[tuple[str, str], list[ConfigurationFile]] = {}
    for file in _files(machine):
        if file.name:
            networks.setdefault((str(file.path.parent), file.name), []).append(file)
    for (folder, network), files in networks.items():
        if len(files) < 2 or not any(file.ours for file in files):
            continue
        lists = [file for file in files if file.path.suffix == ".conflist"]
        problem = CONF_BESIDE_CONFLIST if len(lists) == 1 else NETWORK_TWICE
        yield problem.found(network=network, folder=folder, files=", ".join(file.path.name for file in files))


def in_use(machine: Machine) -> Iterator[Finding]:
    """Our file is the one that containerd uses."""
    settings = containerd()
    if settings is None:
        raise Skip("there is no containerd that starts pods")
    if any(number != 1 for number in settings["max_conf_num"]):
        raise Skip("containerd uses more than one file")
    files = [file for file in _files(machine) if str(file.path.parent) == machine.conf_dirs[0] and not file.error]
    if files and any(string(plugin, "type").startswith("multus") for plugin in files[0].plugins):
        raise Skip("containerd uses Multus, which reads the other files")
    for file in files[1:]:
        if file.ours:
            yield CONFIGURATION_SHADOWED.found(first=str(files[0].path), file=str(file.path))


def plugins(machine: Machine) -> Iterator[Finding]:
    """Every plugin that our configurations name is there."""
    files = [file for file in _files(machine) if file.ours]
    folders = machine.plugin_folders
    needed: dict[str, str] = {}
    for file in files:
        for plugin in file.plugins:
            for name in (string(plugin, "type"), string(plugin, "ipam", "type")):
                if name and "/" not in name:
                    needed.setdefault(name, str(file.path))
    needed.pop("ovs", None)  # that is told by another check, and in more detail
    for name, path in needed.items():
        if not any(os.access(os.path.join(folder, name), os.X_OK) for folder in folders):
            shown = ", ".join(folders) or "any folder"
            yield PLUGIN_NOT_THERE.found(plugin=name, file=path, folders=shown)


def _files(machine: Machine) -> list[ConfigurationFile]:
    if not machine.configurations:
        raise Skip("there are no network configurations")
    return machine.configurations


def is_ours_wanted(machine: Machine) -> bool:
    """Whether a configuration names the plugin ovs."""
    return any(lookup(plugin, "type") == "ovs" for file in machine.configurations for plugin in file.plugins)


CHECKS = (
    Check(
        "configurations",
        "network configurations",
        usable,
        (CONFIGURATION_UNUSABLE, CONFIGURATION_REFUSED, KEY_IGNORED),
        of_target=False,
    ),
    Check("networks", "networks in more than one file", unique, (NETWORK_TWICE, CONF_BESIDE_CONFLIST), of_target=False),
    Check("shadowed", "the configuration that containerd uses", in_use, (CONFIGURATION_SHADOWED,), of_target=False),
    Check("plugins", "plugins that our configurations name", plugins, (PLUGIN_NOT_THERE,), of_target=False),
)
