"""What a runtime's machine needs around the plugin: folders of its own, and the plugin installed in one of them."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

from tests.support.plugin import REPOSITORY, Target
from tests.support.processes import run, wait_for

INSTALL = REPOSITORY / "build/cni-ovs-install"

# Each folder is covered by an overlay whose changes live in a tmpfs; all of it vanishes with the last process in the
# mount namespace. `cat` ends when the pipe to its stdin closes, also when pytest is killed.
_COVER = """
set -eu
scratch=$1
shift
mount -t tmpfs tmpfs "$scratch"
for folder in "$@"; do
    changes=$scratch$folder
    mkdir -p "$changes/upper" "$changes/work"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$changes/upper,workdir=$changes/work" "$folder"
done
touch "$scratch/ready"
exec cat
"""


class PrivateMounts:
    """A mount namespace in which programs may write to some of the machine's folders without changing them.

    For programs that have the folders' names built in, as `/var/lib/cni` in libcni and `/etc/cni/net.d` in ctr. What is
    mounted below a covered folder is not visible there.
    """

    def __init__(self, *folders: str) -> None:
        """Covers these folders of the machine, which must exist."""
        with tempfile.TemporaryDirectory(prefix="cniovs-mounts-") as scratch:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _COVER, "sh", scratch, *folders],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                wait_for("the folders are covered", lambda: self._ready(scratch))
            except AssertionError:
                self.close()
                raise

    def _ready(self, scratch: str) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(self._process.communicate()[1])
        return self.path(f"{scratch}/ready").exists()

    def command(self, *argv: str | Path) -> list[str]:
        """The command line that runs `argv` here; the process id is that of the program."""
        return ["/usr/bin/nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", "--", *(str(word) for word in argv)]

    def path(self, path: str) -> Path:
        """A path here, as it can be opened from outside."""
        return Path(f"/proc/{self._process.pid}/root{path}")

    def close(self) -> None:
        """Ends it; the folders' private content is gone with its last process."""
        if self._process.poll() is None:
            try:
                self._process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate(timeout=5)


def install_plugin(target: Target, folder: Path) -> None:
    """Puts the plugin into a folder for CNI_PATH as `ovs`, as people do with this form; a module by a script."""
    folder.mkdir(parents=True, exist_ok=True)
    if target.name == "module":
        variables = [f"{key}={value}" for key, value in target.environment.items()]
        script = folder / "ovs"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(['env', *variables, *target.command])}\n")
        script.chmod(0o755)
    else:
        run([INSTALL, folder])
