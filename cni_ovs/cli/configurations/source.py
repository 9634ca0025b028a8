"""Texts that people write: read from a file or stdin, with the places in them, and what is wrong there."""

from __future__ import annotations

import bisect
import os
import re
import stat
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..failure import Failure

STDIN = "-"  # as a path
PLUGIN_FOLDERS = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"  # CNI_PATH where nobody says another one
RUNTIME_ENDINGS = (".conf", ".conflist", ".json")  # of their files, as libcni's ConfFiles
FOLDERS = ("/etc/cni/net.d", "/etc/cni/multus/net.d")  # of network configurations: a runtime's, and Multus'
_TEMPLATE = re.compile(r"\{\{-?\s*[.$/\w][^{}]{0,200}\}\}")  # JSON has a quotation mark or a brace behind a brace
LARGEST = 16 << 20  # bytes; all networks of a large cluster have less


@dataclass(frozen=True)
class Problem:
    """Something wrong in a text.

    Attributes:
        path: of the file, "<stdin>", or "<text>".
        line, column: from 1, in characters; 0 if all of the file is meant.
        severity: "error": ADD refuses it, or does not do what is meant; "warning": for a person to decide.
        message: what is wrong, with its value; one line.
        remedy: what to do, in one line; "" where the message says it.
        excerpt: the line, as it is.
        length: how many characters of it are meant.
    """

    path: str
    line: int
    column: int
    severity: str
    message: str
    remedy: str = ""
    excerpt: str = field(default="", compare=False)
    length: int = field(default=1, compare=False)

    def as_json(self) -> dict[str, Any]:
        """For programs, which have the file."""
        return {key: value for key, value in asdict(self).items() if key not in ("excerpt", "length")}


@dataclass
class Source:
    """A text and where it is from.

    Attributes:
        name: path of the file, "<stdin>", or "<text>".
        text: without a byte order mark.
        mark: whether there was one.
    """

    name: str
    text: str
    mark: bool = False

    def __post_init__(self) -> None:
        self._starts = [0]
        at = self.text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = self.text.find("\n", at + 1)

    @property
    def path(self) -> Path | None:
        """Of the file; None if it is from elsewhere."""
        return None if self.name.startswith("<") else Path(self.name)

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, from 1."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """A line without its end."""
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end].removesuffix("\r")

    def problem(
        self, offset: int | None, message: str, remedy: str = "", *, severity: str = "error", end: int | None = None
    ) -> Problem:
        """A problem with what is between two characters, or with all of it (None)."""
        if offset is None:
            return Problem(self.name, 0, 0, severity, message, remedy)
        line, column = self.place(offset)
        excerpt = self.line(line)
        length = max(1, min((end or offset + 1) - offset, len(excerpt) - column + 1))
        return Problem(self.name, line, column, severity, message, remedy, excerpt, length)


def of_template(text: str) -> str:
    """What to do about a text that cannot be read because it is a template, of Helm say; "" if it seems to be none."""
    if not _TEMPLATE.search(text):
        return ""
    return "it seems to be a template: look at what it becomes, as with `helm template … | cni-ovs validate -`"


def unreadable(path: str, error: Failure) -> Problem:
    """Why a file cannot be read, as a problem of it."""
    if isinstance(error, NotText):
        return error.problem
    return Problem(path, 0, 0, "error", error.message.removeprefix(f"{path} "), error.remedy)


class NotText(Failure):
    """A file is not UTF-8.

    Attributes:
        problem: the same, with its place.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.path}: {problem.message}", problem.remedy)
        self.problem = problem


def read(path: str) -> Source:
    """What is in a file, or on stdin ("-").

    Raises:
        Failure: it cannot be read, is no regular file, or is too large.
        NotText: it is not UTF-8.
    """
    name = "<stdin>" if path == STDIN else path
    data = sys.stdin.buffer.read(LARGEST + 1) if path == STDIN else _contents(path)
    if len(data) > LARGEST:
        raise Failure(f"{name} is larger than {LARGEST >> 20} MiB")
    return decode(name, data)


def decode(name: str, data: bytes) -> Source:
    """A text from its bytes; NotText if they are none."""
    mark = data.startswith(b"\xef\xbb\xbf")
    try:
        return Source(name, data.decode("utf-8-sig"), mark)
    except UnicodeDecodeError as error:
        before = Source(name, data[: error.start].decode("utf-8-sig") + "\ufffd", mark)
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise NotText(before.problem(len(before.text) - 1, what, "save the file as UTF-8")) from error


def _contents(path: str) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO must not stop us.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                remedy = "give the text on stdin, as `-`" if stat.S_ISFIFO(mode) else ""
                raise Failure(f"{path} is no regular file", remedy)
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: no path can be so
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Failure(
            f"{path} cannot be read: {reason}", "run it as root" if isinstance(error, PermissionError) else ""
        ) from error
