"""The running containers of the runtimes that are on this host, asked through their own sockets and commands.

Docker (its HTTP API), podman, containerd (`ctr`), and whatever speaks CRI (`crictl`), each only where it is there.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_ovs.plugin.deadline import Deadline

_SECONDS = 5.0  # for each question; a runtime that does not answer one is not asked another
_ALL_SECONDS = 15.0  # for all questions to one runtime
_LARGEST_ANSWER = 64 << 20
_DOCKER = "/var/run/docker.sock"
_CONTAINERD = "/run/containerd/containerd.sock"
_CRI_O = "/var/run/crio/crio.sock"
_MOBY = "moby"  # the namespace of containerd that is Docker's
_POD_NAME, _POD_NAMESPACE = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
_CONTAINER_NAME = "io.kubernetes.container.name"
# What containerd itself knows, where kubelet has not labelled a pod.
_ANNOTATIONS = {
    _POD_NAME: "io.kubernetes.cri.sandbox-name",
    _POD_NAMESPACE: "io.kubernetes.cri.sandbox-namespace",
    _CONTAINER_NAME: "io.kubernetes.cri.container-name",
}


# What can come of asking: nobody there, no answer in time, or one of another form.
_NO_ANSWER = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError),
    *(http.client.HTTPException, subprocess.SubprocessError),
)


@dataclass(frozen=True)
class Container:
    """A running container.

    Attributes:
        runtime: "docker", "podman", "containerd" or "cri".
        id: as the runtime has it.
        names: under which people know it; perhaps none.
        pod: NAMESPACE/NAME in Kubernetes; "" if it is in no pod.
        is_sandbox: whether it is what keeps the pod's namespaces.
        pid: of its first process, on this host.
    """

    runtime: str
    id: str
    names: tuple[str, ...]
    pod: str
    is_sandbox: bool
    pid: int

    @property
    def netns(self) -> str:
        """The path of its network namespace."""
        return f"/proc/{self.pid}/ns/net"


@dataclass(frozen=True)
class Answer:
    """What all runtimes said: their running containers, and the complaints of those that could not answer."""

    containers: list[Container]
    complaints: list[str]


def containers() -> Answer:
    """The running containers of all runtimes."""
    found: list[Container] = []
    complaints = []
    for name, ask in _RUNTIMES.items():
        try:
            for container in ask(Deadline(_ALL_SECONDS)):
                found.append(container)
        except _NO_ANSWER as error:
            complaints.append(f"{name} does not say which containers it runs: {_reason(error)}")
    return Answer(found, complaints)


def _each(listed: Iterable[Any], read: Callable[[Any], Container]) -> Iterator[Container]:
    """What is read of each; an error of one, which has ended since it was listed perhaps, keeps nobody from the others.

    Raises:
        the first error, at the end; at once, if there was no answer in time.
    """
    first: BaseException | None = None
    for one in listed:
        try:
            yield read(one)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise
        except _NO_ANSWER as error:
            first = first or error
    if first is not None:
        raise first


def _docker(time: Deadline) -> Iterator[Container]:
    path = os.environ.get("DOCKER_HOST", f"unix://{_DOCKER}").removeprefix("unix://")
    if not path.startswith("/") or not Path(path).is_socket():
        return

    def read(listed: Any) -> Container:
        state = _get(time, path, f"/containers/{listed['Id']}/json")["State"]
        names = tuple(name.removeprefix("/") for name in listed.get("Names") or ())
        return _container("docker", listed["Id"], names, listed.get("Labels"), state["Pid"])

    yield from _each(_get(time, path, "/containers/json"), read)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._seconds)
        self.sock.connect(self._path)


def _get(time: Deadline, path: str, what: str) -> Any:
    question = time.shorter(_SECONDS)
    connection = _Connection(path, _left(question))
    try:
        connection.request("GET", what)
        response = connection.getresponse()
        body = b""
        while (part := response.read1(1 << 16)) and len(body) < _LARGEST_ANSWER:
            body += part
            _left(question)
        if response.status != 200:
            raise OSError(f"{what}: {response.status} {response.reason}")
        return json.loads(body)
    finally:
        connection.close()


def _podman(time: Deadline) -> Iterator[Container]:
    if shutil.which("podman") is None:
        return

    def read(listed: Any) -> Container:
        return _container("podman", listed["Id"], tuple(listed.get("Names") or ()), listed.get("Labels"), listed["Pid"])

    yield from _each(json.loads(_output(time, "podman", "ps", "--format", "json") or "[]") or (), read)


def _containerd(time: Deadline) -> Iterator[Container]:
    address = os.environ.get("CONTAINERD_ADDRESS", _CONTAINERD)
    if shutil.which("ctr") is None or not Path(address).is_socket():
        return
    for namespace in _output(time, "ctr", "--address", address, "namespaces", "list", "--quiet").split():
        if namespace == _MOBY and Path(_DOCKER).is_socket():
            continue  # Docker knows their names
        yield from _in_namespace(time, "ctr", "--address", address, "--namespace", namespace)


def _in_namespace(time: Deadline, *ctr: str) -> Iterator[Container]:
    """The containers in a namespace of containerd."""

    def read(task: list[str]) -> Container:
        name, pid, _ = task
        info = json.loads(_output(time, *ctr, "containers", "info", name))
        labels = info.get("Labels") or {}
        for key, annotation in _ANNOTATIONS.items():
            labels.setdefault(key, (info["Spec"].get("annotations") or {}).get(annotation))
        known = tuple(labels[key] for key in ("nerdctl/name", _CONTAINER_NAME) if labels.get(key))
        return _container("containerd", name, known, labels, int(pid))

    tasks = [line.split() for line in _output(time, *ctr, "tasks", "list").splitlines()[1:]]
    yield from _each((task for task in tasks if len(task) == 3 and task[2] != "STOPPED" and task[1] != "0"), read)


def _cri(time: Deadline) -> Iterator[Container]:
    """Of CRI-O; containerd's are known already."""
    if shutil.which("crictl") is None or Path(os.environ.get("CONTAINERD_ADDRESS", _CONTAINERD)).is_socket():
        return
    if not (Path(_CRI_O).is_socket() or os.environ.get("CONTAINER_RUNTIME_ENDPOINT")):
        return  # it would look for all that it knows, and complain of each

    def ask(*words: str) -> Any:
        command, *rest = words
        return json.loads(_output(time, "crictl", command, "--output", "json", *rest))

    def pod(listed: Any) -> Container:
        metadata = listed["metadata"]
        labels = {_POD_NAME: metadata["name"], _POD_NAMESPACE: metadata["namespace"], _KIND: _SANDBOX}
        return _container("cri", listed["id"], (), labels, ask("inspectp", listed["id"])["info"]["pid"])

    def container(listed: Any) -> Container:
        names, pid = (listed["metadata"]["name"],), ask("inspect", listed["id"])["info"]["pid"]
        return _container("cri", listed["id"], names, listed.get("labels"), pid)

    yield from _each(ask("pods", "--state", "ready")["items"], pod)
    yield from _each(ask("ps")["containers"], container)


_RUNTIMES: dict[str, Callable[[Deadline], Iterator[Container]]] = {
    "docker": _docker,
    "podman": _podman,
    "containerd": _containerd,
    "cri": _cri,
}
_KIND, _SANDBOX = "io.cri-containerd.kind", "sandbox"


def _container(runtime: str, identifier: str, names: tuple[str, ...], labels: Any, pid: int) -> Container:
    labels = labels if isinstance(labels, dict) else {}
    namespace, name = labels.get(_POD_NAMESPACE), labels.get(_POD_NAME)
    pod = f"{namespace}/{name}" if namespace and name else ""
    return Container(runtime, identifier, names, pod, labels.get(_KIND) == _SANDBOX, int(pid))


def _left(time: Deadline) -> float:
    """Seconds that are left; TimeoutError if none are."""
    left = time.remaining()
    if not left:
        raise TimeoutError("it takes too long")
    return left


def _output(time: Deadline, *command: str) -> str:
    """What a command prints. It is killed when it takes too long."""
    seconds = _left(time.shorter(_SECONDS))
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise OSError(f"{command[0]}: {said[-1]}")
    return done.stdout


def _reason(error: BaseException) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not answer in {error.timeout:.2g} s"
    return f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)
