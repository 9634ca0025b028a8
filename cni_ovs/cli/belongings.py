"""What a container has attached: its ports, and notes of ports whose removal, or attaching anew, was interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cni_ovs.plugin import attachment as attachments
from cni_ovs.plugin import detaching
from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.forms import tells_attachment
from cni_ovs.plugin.vswitch import Vswitch

from . import database, kernel, recorded, targets
from .database import Bridge, Port
from .failure import Failure
from .targets import Target

_SHORTEST_ID, _WHOLE_ID = 3, 64  # characters that must be given, and that runtimes' ids have; names are shorter
_SECONDS = 5.0


@dataclass(frozen=True)
class Belonging:
    """A port of ours, or a note of one (detaching.py).

    Attributes:
        external_ids: those of the port, or what is noted.
        hangs: its rows; None if there is a note only.
        note: what is noted of a port that hangs: that something is not finished.
    """

    external_ids: dict[str, str]
    hangs: tuple[Bridge, Port] | None
    note: dict[str, str] | None = None

    @property
    def ifname(self) -> str:
        """The name of the interface in the container."""
        return self.external_ids.get("contIface", "")

    @property
    def netns(self) -> str:
        """The path of the container's namespace."""
        return self.external_ids.get("contNetns", "")

    @property
    def bridge(self) -> str:
        """The name of the bridge; "" if that is not known."""
        if self.hangs is not None:
            return self.hangs[0].name
        record = recorded.known(self.external_ids)
        return str(record.config.get("bridge", "")) if record else ""

    @property
    def port(self) -> str:
        """The name of the port, also of one that is gone."""
        return self.hangs[1].name if self.hangs is not None else attachments.name_of(self.external_ids)

    @property
    def container(self) -> str:
        """Whose it is, for people."""
        container_id = self.external_ids.get("contID", "")
        shown = container_id[:12] if len(container_id) >= _WHOLE_ID else container_id
        return recorded.known_as(self.external_ids) or shown


def everything(address: str) -> list[Belonging]:
    """All that is ours in the database of this address; errors are those of `database.read`."""
    # In this order: what is removed in between is seen as a port, as a note, or as both.
    pairs = list(database.read(address).attached())
    notes = detaching.notes(Vswitch(address, Deadline(_SECONDS)), {"owner": attachments.OWNER})
    found = []
    for bridge, port in pairs:
        name = attachments.name_of(port.external_ids) if tells_attachment(port.external_ids) else ""
        found.append(Belonging(port.external_ids, (bridge, port), notes.pop(name, None)))
    return [*found, *(Belonging(ids, None) for _, ids in sorted(notes.items()))]


def of(address: str, text: str, ifname: str | None = None) -> list[Belonging]:
    """What a container has attached; it need not run any more.

    Args:
        address: of the database.
        text: TARGET; if nothing of that name runs, it may also be what is recorded with a port.
        ifname: only that of this interface.

    Raises:
        Failure: there is nothing, or more than one container is recorded by that name.
    """
    all_of_them = everything(address)
    try:
        target = targets.find(text)
    except Failure:
        found = [one for one in all_of_them if _is_recorded(one.external_ids, text)]
        if not found:
            raise
        _refuse_several(found, text)
    else:
        found = [one for one in all_of_them if _is_of(one.external_ids, target)]
    there = ", ".join(one.ifname for one in found)
    chosen = [one for one in found if ifname in (None, one.ifname)]
    if not chosen:
        what = "nothing" if ifname is None else f"no interface {ifname!r}"
        raise Failure(f"{text!r} has {what} attached", f"it has {there}" if there else "see `cni-ovs show`")
    return chosen


def _is_of(external_ids: dict[str, str], target: Target) -> bool:
    if external_ids.get("contID") == target.container_id:
        return True
    if recorded.is_process_gone(external_ids):
        return False
    try:
        return kernel.identity(external_ids.get("contNetns", "")) == target.identity
    except (OSError, ValueError):
        return False


def _is_recorded(external_ids: dict[str, str], text: str) -> bool:
    """Whether a port is recorded to be that of a container of this name, id or path."""
    container_id = external_ids.get("contID", "")
    is_beginning = len(text) >= _SHORTEST_ID and len(container_id) >= _WHOLE_ID and container_id.startswith(text)
    return is_beginning or text in _names(external_ids)


def _names(external_ids: dict[str, str]) -> Iterator[str]:
    netns = external_ids.get("contNetns", "")
    folder, _, name = netns.rpartition("/")
    pod, namespace = external_ids.get("contPodName"), external_ids.get("contPodNamespace")
    found: Iterable[str | None] = (
        *(external_ids.get(recorded.NAME), external_ids.get("contID"), netns),
        name if folder in targets.NAMED_FOLDERS else None,
        *((pod, f"{namespace}/{pod}") if pod and namespace else ()),
    )
    return (text for text in found if text)


def _refuse_several(found: list[Belonging], text: str) -> None:
    """Refuse a name that more than one container had, or the beginning of more than one id."""
    ids = sorted({one.external_ids.get("contID", "") for one in found})
    if len(ids) > 1:
        raise Failure(f"{text!r} is recorded for more than one container", f"say which: {', '.join(ids[:10])}")
