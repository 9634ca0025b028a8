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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECONDS = 5.0  # for each question
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
_NO_ANSWER = (OSError, ValueError, LookupError, TypeError, http.client.HTTPException, subprocess.SubprocessError)


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
            found += ask()
        except _NO_ANSWER as error:
            complaints.append(f"{name} does not say which containers it runs: {_reason(error)}")
    return Answer(found, complaints)


def _docker() -> Iterator[Container]:
    path = os.environ.get("DOCKER_HOST", f"unix://{_DOCKER}").removeprefix("unix://")
    if not path.startswith("/") or not Path(path).is_socket():
        return
    for listed in _get(path, "/containers/json"):
        state = _get(path, f"/containers/{listed['Id']}/json")["State"]
        names = tuple(name.removeprefix("/") for name in listed.get("Names") or ())
        yield _container("docker", listed["Id"], names, listed.get("Labels"), state["Pid"])


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def _get(path: str, what: str) -> Any:
    connection = _Connection(path)
    try:
        connection.request("GET", what)
        response = connection.getresponse()
        body = response.read(_LARGEST_ANSWER)
        if response.status != 200:
            raise OSError(f"{what}: {response.status} {response.reason}")
        return json.loads(body)
    finally:
        connection.close()


def _podman() -> Iterator[Container]:
    if shutil.which("podman") is None:
        return
    for listed in json.loads(_output("podman", "ps", "--format", "json") or "[]") or ():
        yield _container("podman", listed["Id"], tuple(listed.get("Names") or ()), listed.get("Labels"), listed["Pid"])


def _containerd() -> Iterator[Container]:
    address = os.environ.get("CONTAINERD_ADDRESS", _CONTAINERD)
    if shutil.which("ctr") is None or not Path(address).is_socket():
        return
    ctr = ("ctr", "--address", address)
    for namespace in _output(*ctr, "namespaces", "list", "--quiet").split():
        if namespace == _MOBY and Path(_DOCKER).is_socket():
            continue  # Docker knows their names
        tasks = [line.split() for line in _output(*ctr, "--namespace", namespace, "tasks", "list").splitlines()[1:]]
        for name, pid, status in (task for task in tasks if len(task) == 3):
            if status == "STOPPED" or pid == "0":
                continue
            info = json.loads(_output(*ctr, "--namespace", namespace, "containers", "info", name))
            labels = info.get("Labels") or {}
            for key, annotation in _ANNOTATIONS.items():
                labels.setdefault(key, (info["Spec"].get("annotations") or {}).get(annotation))
            known = tuple(labels[key] for key in ("nerdctl/name", _CONTAINER_NAME) if labels.get(key))
            yield _container("containerd", name, known, labels, int(pid))


def _cri() -> Iterator[Container]:
    """Of CRI-O; containerd's are known already."""
    if shutil.which("crictl") is None or Path(os.environ.get("CONTAINERD_ADDRESS", _CONTAINERD)).is_socket():
        return
    if not (Path(_CRI_O).is_socket() or os.environ.get("CONTAINER_RUNTIME_ENDPOINT")):
        return  # it would look for all that it knows, and complain of each
    for listed in json.loads(_output("crictl", "pods", "--state", "ready", "--output", "json"))["items"]:
        info = json.loads(_output("crictl", "inspectp", "--output", "json", listed["id"]))["info"]
        metadata = listed["metadata"]
        labels = {_POD_NAME: metadata["name"], _POD_NAMESPACE: metadata["namespace"], _KIND: _SANDBOX}
        yield _container("cri", listed["id"], (), labels, info["pid"])
    for listed in json.loads(_output("crictl", "ps", "--output", "json"))["containers"]:
        info = json.loads(_output("crictl", "inspect", "--output", "json", listed["id"]))["info"]
        yield _container("cri", listed["id"], (listed["metadata"]["name"],), listed.get("labels"), info["pid"])


_RUNTIMES: dict[str, Callable[[], Iterator[Container]]] = {
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


def _output(*command: str) -> str:
    """What a command prints. It is killed when it takes too long."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise OSError(f"{command[0]}: {said[-1]}")
    return done.stdout


def _reason(error: BaseException) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not answer in {error.timeout:g} s"
    return f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)
