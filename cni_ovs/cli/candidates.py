"""What a shell offers to complete: the names that are there. Everything here may fail or take long; see options.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from cni_ovs.plugin.attachment import OWNER
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.vswitch import Vswitch

_SECONDS = 0.5


def bridges(address: str) -> Iterable[str]:
    """The names of all bridges."""
    return _vswitch(address).bridge_names()


def networks(address: str) -> Iterable[str]:
    """The names of the networks that something is attached to."""
    return (ids.get("contNetwork", "") for ids in _attachments(address))


def configured(folders: Sequence[str]) -> Iterable[str]:
    """The names of the networks that files in these folders configure."""
    from .configurations import networks  # noqa: PLC0415 - only some commands need it

    return networks.read(folders).by_name


def targets() -> Iterable[str]:
    """What something can be attached to."""
    from . import targets  # noqa: PLC0415 - it imports pyroute2, which takes longer than all the rest

    return targets.names()


def interfaces(address: str, target: str) -> Iterable[str]:
    """The interfaces that containers have from us; only those of a target, if that is one of them."""
    attached = _attachments(address)
    ours = [ids for ids in attached if target in _names(ids)]
    return (ids.get("contIface", "") for ids in ours or attached)


def _names(ids: dict[str, str]) -> set[str]:
    """What somebody may call the container that a port with these external_ids belongs to."""
    netns = ids.get("contNetns", "")
    return {ids.get("contID", ""), netns, os.path.basename(netns), ids.get("contPodName", ""), ids.get("contName", "")}


def _attachments(address: str) -> list[dict[str, str]]:
    return [ids for _, ids in _vswitch(address).port_records() if ids.get("owner") == OWNER]


def _vswitch(address: str) -> Vswitch:
    return Vswitch(address, Deadline(_SECONDS))
