"""A private containerd on a node.

containerd runs from a private configuration inside the namespace that plays the host. `ctr` has the names
`/etc/cni/net.d` and `/opt/cni/bin` built in, and containerd's shim has `/run/containerd`; so both run in a mount
namespace where these folders are private ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime import image
from tests.runtime.machine import PrivateMounts, install_plugin
from tests.support import ipam
from tests.support.node import Node
from tests.support.plugin import Json
from tests.support.processes import alive, run, wait_for

BUSYBOX = Path("/bin/busybox")
ADDRESS = "/run/containerd/containerd.sock"  # in the private /run; the name of a socket has at most 107 bytes
NEEDED = ("containerd", "ctr", "runc")
PAUSE = "localhost/pause:1"  # what keeps the namespaces of a pod
CRICTL = Path(ipam.TOOLS) / "crictl"


class Containerd:
    """A private containerd on a node, and containers in it."""

    def __init__(self, node: Node, mounts: PrivateMounts, folder: Path) -> None:
        """Starts it; `folder` takes all that it writes."""
        self.node = node
        self.mounts = mounts
        self.rootfs = folder / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        shutil.copy2(BUSYBOX, self.rootfs / "bin/busybox")
        self._folder = folder
        self._log = folder / "containerd.log"
        config = folder / "config.toml"
        config.write_text(
            "version = 2\n"
            f'root = "{folder}/root"\n'
            f'state = "{folder}/state"\n'
            f'[grpc]\naddress = "{ADDRESS}"\n'
            '[plugins."io.containerd.grpc.v1.cri"]\n'
            f'sandbox_image = "{PAUSE}"\n'
            "restrict_oom_score_adj = true\n"
            "disable_cgroup = true\n"
            '[plugins."io.containerd.grpc.v1.cri".containerd]\n'
            'snapshotter = "native"\n'
        )
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                node.host.command(*mounts.command("containerd", "--config", config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        node.helper(self._process.pid)
        install_plugin(node.plugin.target, mounts.path("/opt/cni/bin"))

    def wait_until_it_answers(self) -> None:
        """Returns when its socket answers."""
        wait_for("containerd answers", self._answers, timeout=20)

    def _answers(self) -> bool:
        assert alive(self._process.pid), self._log.read_text()
        return self.ctr("version", check=False).returncode == 0

    def network(self, plugin: Json, *cni_path: str) -> None:
        """Makes it the network of all containers; the plugins of the folders are put beside ours."""
        self.mounts.path("/etc/cni/net.d").mkdir(parents=True, exist_ok=True)
        network = {"cniVersion": "1.0.0", "name": self.node.network, "plugins": [plugin]}
        self.mounts.path("/etc/cni/net.d/10-network.conflist").write_text(json.dumps(network))
        for folder in cni_path:
            for program in Path(folder).iterdir():
                if program.is_file():
                    shutil.copy2(program, self.mounts.path("/opt/cni/bin"))

    def command(self, *words: str | Path) -> list[str]:
        """The command line of ctr with these words."""
        return self.node.host.command(*self.mounts.command("ctr", "--address", ADDRESS, *words))

    def ctr(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs ctr to its end."""
        return run(self.command(*words), check=check)

    def run_words(self, name: str, *argv: str) -> tuple[str | Path, ...]:
        """The words with which ctr runs `argv` in a new container, in the foreground."""
        # The empty --cgroup: no parent group is left behind on the machine.
        return ("run", "--rm", "--cni", "--cgroup", "", "--rootfs", self.rootfs, name, *argv)

    def start(self, name: str, *argv: str) -> None:
        """Runs `argv` in a new container that is in no network, in the background."""
        self.ctr("run", "--detach", "--cgroup", "", "--rootfs", self.rootfs, name, *argv)

    def crictl(self, *words: str | Path, check: bool = True) -> str:
        """What crictl prints, which speaks CRI as Kubernetes does."""
        variables = ("env", f"CONTAINER_RUNTIME_ENDPOINT=unix://{ADDRESS}")
        command = self.node.host.command(*self.mounts.command(*variables, CRICTL, *words))
        return run(command, check=check).stdout.strip()

    def start_pod(self, namespace: str, name: str) -> str:
        """Starts a pod with nothing in it, as kubelet does; returns the id of its sandbox."""
        archive = self._folder / "pause.tar"
        image.write(archive, PAUSE, "/bin/busybox", "sleep", "600")
        self.ctr("--namespace", "k8s.io", "images", "import", "--snapshotter", "native", archive)
        metadata = {"name": name, "namespace": namespace, "uid": "uid-of-pod", "attempt": 0}
        pod = self._folder / "pod.json"
        pod.write_text(json.dumps({"metadata": metadata, "log_directory": str(self._folder), "linux": {}}))
        return self.crictl("runp", pod)

    def remove_pods(self) -> None:
        """Ends and removes what pods there are."""
        if CRICTL.is_file():
            for pod in self.crictl("pods", "--quiet", check=False).split():
                self.crictl("stopp", pod)
                self.crictl("rmp", pod)

    def remove_containers(self) -> None:
        """Ends and removes what containers there are."""
        for name in self.ctr("containers", "list", "--quiet").stdout.split():
            self.ctr("tasks", "delete", "--force", name, check=False)
            self.ctr("containers", "delete", name)

    def stop(self) -> None:
        """Ends all containers, then containerd."""
        if alive(self._process.pid):
            self.remove_pods()
            self.remove_containers()
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


@pytest.fixture
def containerd(node: Node, tmp_path: Path) -> Iterator[Containerd]:
    """A private containerd with a busybox root file system."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or not BUSYBOX.is_file():
        pytest.skip(f"not installed: {', '.join(missing) or 'busybox-static'}")
    mounts = PrivateMounts("/etc", "/opt", "/run", "/var/lib")
    try:
        made = Containerd(node, mounts, tmp_path)
        try:
            made.wait_until_it_answers()
            yield made
        finally:
            made.stop()
    finally:
        mounts.close()
