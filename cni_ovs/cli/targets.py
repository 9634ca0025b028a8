"""What a TARGET on the command line is: a network namespace, a process, or a container of some runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.forms import is_identifier
from cni_ovs.plugin.netns import Namespace, is_own
from cni_ovs.plugin.spelling import nearest

from . import kernel, runtimes
from .failure import Failure
from .runtimes import Container

NAMED = Path("/run/netns")  # where ip-netns(8) keeps namespaces
NAMED_FOLDERS = (str(NAMED), "/var/run/netns")  # as runtimes may call it
_SHORTEST_ID = 3  # so much of a container's id must be given
_LISTED = 10
_LONGEST_COMPLAINT = 200


@dataclass(frozen=True)
class Target:
    """A network namespace, and whose it is.

    Attributes:
        text: as it was given.
        netns: path of the namespace.
        container_id: CNI_CONTAINERID for what is attached to it; for a bare namespace made from its name.
        name: for people.
        runtime: "docker", "podman", "containerd", "cri"; "process" or "namespace" for what is no container.
        pod: NAMESPACE/NAME in Kubernetes, else "".
    """

    text: str
    netns: str
    container_id: str
    name: str
    runtime: str
    pod: str = ""

    @property
    def identity(self) -> tuple[int, int]:
        """What tells its namespace from others."""
        return kernel.identity(self.netns)


def find(text: str) -> Target:
    """What is meant: a path, the name of a namespace, the number of a process, or a container's or pod's name or id.

    Raises:
        Failure: there is nothing of that name, or more than one; or it is no network namespace.
    """
    if not text:
        raise Failure("no container is named: TARGET is empty", "see `cni-ovs show`")
    target = _namespace(text) or _process(text) or _container(text)
    try:
        Namespace(target.netns).close()
    except CniError as error:
        raise Failure(error.msg.replace("CNI_NETNS", "the namespace", 1), error.details) from error
    if is_own(target.netns):
        raise Failure(f"{text!r} has the network namespace of this host", "name a container that has one of its own")
    return target


def names() -> list[str]:
    """Everything on this host that can be a TARGET, for completion."""
    found = sorted(path.name for path in NAMED.iterdir()) if NAMED.is_dir() else []
    for container in runtimes.containers().containers:
        found += container.names or (container.id[:12],)
        found += [container.pod] if container.is_sandbox else []
    return found


def _namespace(text: str) -> Target | None:
    """A path, or a name of ip-netns(8)."""
    if "\0" in text or ("/" in text and not text.startswith("/")):
        return None
    path = Path(text) if text.startswith("/") else NAMED / text
    try:
        inode = kernel.identity(str(path))[1]
    except FileNotFoundError:
        if text.startswith("/"):
            raise Failure(f"there is no namespace {text}", "see `ip netns`") from None
        return None
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    is_named = path.parent.resolve() == NAMED.resolve() and is_identifier(path.name)
    return Target(text, str(path), path.name if is_named else f"netns-{inode}", path.name, "namespace")


def _process(text: str) -> Target | None:
    if not text.isascii() or not text.isdigit() or not os.path.exists(f"/proc/{text}"):
        return None
    netns = f"/proc/{text}/ns/net"
    return Target(text, netns, f"netns-{kernel.identity(netns)[1]}", f"process {text}", "process")


def _container(text: str) -> Target:
    if not text:
        raise Failure("the name of a container must not be empty")
    answer = runtimes.containers()
    matching = _matching(text, answer.containers)
    if not matching:
        raise Failure(f"there is no namespace, process or running container {text!r}", _instead(text, answer))
    # The containers of a pod share its namespace.
    spaces: dict[tuple[int, int], Container] = {}
    for container in sorted(matching, key=lambda container: not container.is_sandbox):
        try:
            spaces.setdefault(kernel.identity(container.netns), container)
        except OSError:
            continue  # it has just ended
    if not spaces:
        raise Failure(f"container {text!r} has just ended")
    if len(spaces) > 1:
        raise Failure(f"{text!r} is the name of more than one container", f"say which: {_listed(spaces.values())}")
    (container,) = spaces.values()
    name = container.pod or (container.names[0] if container.names else container.id[:12])
    return Target(text, container.netns, container.id, name, container.runtime, container.pod)


def _instead(text: str, answer: runtimes.Answer) -> str:
    """What to do where there is nothing of that name."""
    if os.geteuid() != 0:
        return "run it as root: only root sees all containers"
    known = [name for container in answer.containers for name in (*container.names, container.pod) if name]
    known += [path.name for path in NAMED.iterdir()] if NAMED.is_dir() else []
    meant = nearest(text, known)
    if meant:
        return f"did you mean {meant!r}?"
    if answer.containers or not answer.complaints:
        return f"running containers: {_listed(answer.containers) or 'none'}"
    return answer.complaints[0][:_LONGEST_COMPLAINT]


def _matching(text: str, containers: list[Container]) -> list[Container]:
    """The containers that are meant: by their id or name, or else by a pod's name, or else by the id's beginning."""
    ways: tuple[Callable[[Container], bool], ...] = (
        lambda one: text == one.id or text in one.names,
        lambda one: bool(one.pod) and text in (one.pod, one.pod.partition("/")[2]),
        lambda one: len(text) >= _SHORTEST_ID and one.id.startswith(text),
    )
    for is_meant in ways:
        found = [one for one in containers if is_meant(one)]
        if found:
            return found
    return []


def _listed(containers: Iterable[Container]) -> str:
    """Containers as a person may name them."""
    texts = [f"{one.pod or ' '.join(one.names) or 'nameless'} ({one.runtime} {one.id[:12]})" for one in containers]
    return ", ".join(texts[:_LISTED]) + (f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else "")
