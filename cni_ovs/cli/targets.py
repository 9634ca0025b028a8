"""What a TARGET on the command line is: a network namespace, a process, or a container of some runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cni_ovs.plugin.netns import is_own

from . import kernel
from .failure import Failure

NAMED = Path("/run/netns")  # where ip-netns(8) keeps namespaces


@dataclass(frozen=True)
class Target:
    """A network namespace, and whose it is.

    Attributes:
        text: as it was given.
        netns: path of the namespace.
        container_id: CNI_CONTAINERID for what is attached to it; for a bare namespace made from its name.
        name: for people.
        runtime: "docker", "podman", "containerd", "cri"; "process" or "namespace" for what is no container.
    """

    text: str
    netns: str
    container_id: str
    name: str
    runtime: str

    @property
    def identity(self) -> tuple[int, int]:
        """What tells its namespace from others."""
        return kernel.identity(self.netns)


def find(text: str) -> Target:
    """What is meant.

    Raises:
        Failure: there is nothing of that name, or more than one.
    """
    target = _namespace(text) or _process(text)
    if target is None:
        raise Failure(f"there is no namespace, process or container {text!r}", "see `cni-ovs show`")
    if is_own(target.netns):
        raise Failure(f"{text!r} has the network namespace of this host: it is no container's")
    return target


def _namespace(text: str) -> Target | None:
    """A path, or a name of ip-netns(8)."""
    path = Path(text) if text.startswith("/") else NAMED / text
    if ("/" in text and not text.startswith("/")) or not path.exists():
        return None
    try:
        _, inode = kernel.identity(str(path))
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    name = path.name if path.parent == NAMED or path.parent.resolve() == NAMED.resolve() else f"netns-{inode}"
    return Target(text, str(path), name, name, "namespace")


def _process(text: str) -> Target | None:
    if not text.isascii() or not text.isdigit() or not os.path.exists(f"/proc/{text}"):
        return None
    return Target(text, f"/proc/{text}/ns/net", f"pid-{text}", f"process {text}", "process")
