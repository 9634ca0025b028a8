"""A plugin file in a runtime's folder: whose it is, and whether, or why not, it starts."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 2.0  # it takes 10 ms
_GLIBC = re.compile(r"version [`'](GLIBC_[0-9.]+)' not found")
_ABOUT = re.compile(r"\(cni-ovs\) ([^\s,]+)")
_VERSION = re.compile(r"\.ovs-(?P<version>.+)-(?P<digest>[0-9a-f]{16})(?:\.\d+)?")
# ELF (elf(5)): e_machine, and what platform.machine() calls it.
_MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 22: "s390x", 21: "ppc64le"}
_ALSO = {"i386": "i686", "i586": "i686", "armv7l": "arm", "armv6l": "arm"}


@dataclass(frozen=True)
class Answer:
    """What a program did when it was started: its output, or why the kernel would not start it."""

    stdout: str
    stderr: str
    code: int
    error: str = ""


def ask(path: str, **environment: str) -> Answer:
    """Start a plugin with nothing else in its environment."""
    try:
        done = subprocess.run(
            [path], env=environment, input=b"{}", capture_output=True, timeout=_SECONDS, check=False, cwd="/"
        )
    except subprocess.TimeoutExpired:
        return Answer("", "", -1, f"it does not answer within {_SECONDS:g} s")
    except OSError as error:
        return Answer("", "", -1, error.strerror or str(error))
    return Answer(done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"), done.returncode)


def answers(answer: Answer) -> bool:
    """Whether this is an answer to VERSION."""
    try:
        value = json.loads(answer.stdout)
    except (ValueError, RecursionError):
        return False
    return answer.code == 0 and isinstance(value, dict) and isinstance(value.get("supportedVersions"), list)


def version(path: str) -> str | None:
    """The version of a plugin of ours; None if it is another program. Without a command it tells of itself."""
    found = _ABOUT.search(ask(path).stderr)
    return found[1] if found else None


def missing_glibc(answer: Answer) -> str:
    """The newest symbol version that the loader misses, as GLIBC_2.38; "" if that is not why it fails."""
    return max(_GLIBC.findall(answer.stderr), key=_numbers, default="")


def foreign_machine(path: str) -> str:
    """The kind of machine that a program is for, if it is another one than this; "" otherwise."""
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError:
        return ""
    if header[:4] != b"\x7fELF" or len(header) < 20:
        return ""
    number = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    name, own = _MACHINES.get(number, f"machine {number}"), platform.machine()
    own = _ALSO.get(own, own)
    # Which runs programs of 32 bits too; if not, it does not start, and its own message says so.
    return "" if name == own or (name, own) == ("i686", "x86_64") else name


def is_on_noexec(path: str) -> bool:
    """Whether nothing can be executed where a file is."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)
    except OSError:
        return False


def is_damaged(path: Path) -> bool:
    """Whether a plugin that cni-ovs-install has put there is not what its name says; it has a digest in it."""
    named = _VERSION.fullmatch(path.resolve().parent.name)
    if named is None:
        return False  # copied there by hand
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16] != named["digest"]


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.removeprefix("GLIBC_").split(".") if part.isdecimal()]
