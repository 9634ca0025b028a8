"""A virtual machine on a kernel that has openvswitch.ko, whose root folder is this machine's with changes in memory."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.plugin import PATH, REPOSITORY

KERNEL = REPOSITORY / ".tools/kernel"  # build/setup --tests makes it

# Emulated processors: hardware virtualisation is seldom to be had where tests run, and is not needed. The root folder
# is read-only, and there is no network.
_QEMU = (
    *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072"),
    *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
    *("-kernel", str(KERNEL / "vmlinuz"), "-initrd", str(KERNEL / "initramfs.gz")),
    *("-append", "console=ttyS0 panic=-1 quiet"),
    *("-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"),
)
# What goes on when the root folder is there. Open vSwitch 3.1 counts the processors for the first time 10 seconds after
# the boot; until then it believes that there is none, starts no threads and forwards nothing.
_START = """\
export PATH={path} HOME=/root LANG=C.UTF-8
(sleep {seconds}; busybox poweroff -f) &
mkdir -p /lib/modules
mount -o bind {modules} /lib/modules
ip link set lo up
modprobe openvswitch
while [ "$(cut -d. -f1 /proc/uptime)" -lt 11 ]; do sleep 0.2; done
cd {repository}
{command} > /mnt/output 2>&1 < /dev/null
echo $? > /mnt/exit_code
sync
busybox poweroff -f
"""


@dataclass(frozen=True)
class Outcome:
    """What a command in the virtual machine did; `exit_code` is None when it did not end in time."""

    exit_code: int | None
    output: str
    console: str


def missing() -> str | None:
    """Says why there is no virtual machine, or None."""
    return None if (KERNEL / ".stamp").is_file() else "there is no kernel to boot: build/setup --tests"


def run(words: Sequence[str], folder: Path, *, seconds: int) -> Outcome:
    """Boots, runs a command in the repository's folder, and switches off; all that within `seconds`.

    `folder` has to be empty; in the machine it is /mnt, and what is written there remains.
    """
    (folder / "start").write_text(
        _START.format(
            path=PATH,
            seconds=seconds,
            modules=shlex.quote(str(KERNEL / "root/lib/modules")),
            repository=shlex.quote(str(REPOSITORY)),
            command=shlex.join(words),
        )
    )
    console = folder / "console"
    share = f"local,path={folder},mount_tag=out,security_model=none"
    bounded = ("setpriv", "--pdeathsig=TERM", "timeout", "--kill-after=5", str(seconds + 20))  # also when we are killed
    command = [*bounded, "setpriv", "--pdeathsig=KILL", *_QEMU, "-virtfs", share, "-serial", f"file:{console}"]
    with (folder / "qemu").open("w") as said:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, check=False)
    code, output = (folder / name for name in ("exit_code", "output"))
    return Outcome(
        int(code.read_text()) if code.exists() else None,
        output.read_text(errors="replace") if output.exists() else "",
        console.read_text(errors="replace") + (folder / "qemu").read_text() if console.exists() else "",
    )
