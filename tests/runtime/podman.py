"""podman on a node, with its CNI back end.

podman runs inside the namespace that plays the host, with its storage, state and networks in the test's folder. Where
libcni, runc and podman have names of the machine built in, they meet private folders of a mount namespace.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.machine import PrivateMounts, install_plugin
from tests.support import ipam
from tests.support.node import Node
from tests.support.plugin import PATH, Json
from tests.support.processes import run, wait_for

BUSYBOX = Path("/bin/busybox")
NEEDED = ("podman", "conmon", "runc")
CGROUPS = Path("/sys/fs/cgroup")
RUNROOT = "/run/containers/storage"  # in the private /run; podman allows it 50 bytes


class Podman:
    """podman on a node, with one network."""

    def __init__(self, node: Node, mounts: PrivateMounts, folder: Path) -> None:
        """`folder` takes all that it writes. `environment` lets others start podman on it too."""
        self.node = node
        self.mounts = mounts
        self._folder = folder
        self._networks = folder / "net.d"
        self._networks.mkdir()
        self._group = f"cniovs-{secrets.token_hex(4)}"
        plugins = folder / "cni-bin"
        install_plugin(node.plugin.target, plugins)
        self._rootfs = folder / "rootfs"
        (self._rootfs / "bin").mkdir(parents=True)
        shutil.copy2(BUSYBOX, self._rootfs / "bin/busybox")
        settings = folder / "containers.conf"
        settings.write_text(
            "[containers]\n"
            # Without CAP_SYS_RESOURCE the limits that podman sets by default cannot be raised.
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            "[network]\n"
            'network_backend = "cni"\n'
            f'network_config_dir = "{self._networks}"\n'
            f'cni_plugin_dirs = ["{plugins}", "{ipam.DEBIAN}"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "none"\n'
            'lock_type = "file"\n'
            'runtime = "runc"\n'
            'tmp_dir = "/run/libpod"\n'
            f'volume_path = "{folder}/volumes"\n'
        )
        storage = folder / "storage.conf"
        storage.write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{RUNROOT}"\ngraphroot = "{folder}/root"\n')
        self.environment = {
            "CONTAINERS_CONF": str(settings),
            "CONTAINERS_STORAGE_CONF": str(storage),
            "TMPDIR": str(folder),
        }

    def network(self, plugin: Json) -> None:
        """Makes it the network of the containers."""
        network = {"cniVersion": "1.0.0", "name": self.node.network, "plugins": [plugin]}
        (self._networks / "10-network.conflist").write_text(json.dumps(network))

    def command(self, *words: str | Path) -> list[str]:
        """The command line of podman with these words."""
        variables = [f"{key}={value}" for key, value in {"PATH": PATH, **self.environment}.items()]
        return self.node.host.command(*self.mounts.command("env", "-i", *variables, "podman", *words))

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs podman to its end."""
        return run(self.command(*words), check=check)

    def container(self, name: str, *argv: str) -> tuple[str | Path, ...]:
        """The words with which podman runs `argv` in a new container, in the foreground."""
        return ("run", "--rm", "--network", self.node.network, *self._options(name), *argv)

    def start(self, name: str, *argv: str) -> str:
        """Runs `argv` in a new container without a network, in the background; returns its id."""
        return self.run("run", "--detach", "--network", "none", *self._options(name), *argv).stdout.strip()

    def _options(self, name: str) -> tuple[str | Path, ...]:
        return ("--name", name, "--cgroup-parent", f"/{self._group}", "--rootfs", self._rootfs)

    def stop(self) -> None:
        """Ends and removes all containers, and the control groups."""
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        wait_for("podman's helpers have ended", lambda: not self.node.strangers())
        for group in sorted(CGROUPS.glob(f"**/{self._group}/**/"), reverse=True):
            group.rmdir()


@pytest.fixture
def podman(node: Node, tmp_path: Path) -> Iterator[Podman]:
    """A podman with the CNI back end, and a busybox root file system."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing or not BUSYBOX.is_file():
        pytest.skip(f"not installed: {', '.join(missing) or 'busybox-static'}")
    version = run(["podman", "--version"]).stdout.split()[-1]
    if not version.startswith("4."):
        pytest.skip(f"podman {version} has no CNI back end; 4 has")
    mounts = PrivateMounts("/run", "/var/lib")
    try:
        made = Podman(node, mounts, tmp_path)
        try:
            yield made
        finally:
            made.stop()
    finally:
        mounts.close()
