"""How a command fails: one line that says what is wrong, and one that says what to do."""

from __future__ import annotations

import os
from typing import IO, Any

import click

from cni_ovs.plugin.errors import TRY_AGAIN_LATER, CniError

from .output import plain


class Failure(click.ClickException):
    """What was asked for could not be done; exit code 1.

    Args:
        message: what is wrong, with its value; one line.
        remedy: what to do, in one line; "" where the message says it.
        command: whose message it is.
    """

    def __init__(self, message: str, remedy: str = "", *, command: str = "cni-ovs") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.command = command

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it to stderr."""
        click.echo(f"{self.command}: {one_line(self.message)}", file=file, err=file is None)
        if self.remedy:
            click.echo(f"  to do: {one_line(self.remedy)}", file=file, err=file is None)


def from_plugin(error: CniError) -> Failure:
    """An error of the plugin's, in the words of the command."""
    remedy = error.details.replace("`socket_file`", "--db")  # what a configuration calls it
    if isinstance(error.__cause__, PermissionError) and os.geteuid() != 0:
        remedy = "run it as root"
    elif error.code == TRY_AGAIN_LATER and remedy in ("", "it did not answer in time; see its log"):
        remedy = "`cni-ovs doctor` says what is wrong with Open vSwitch"
    return Failure(error.msg, remedy)


def one_line(text: str) -> str:
    """A text that may be anybody's, in one line and with escapes for what would be an order to the terminal."""
    return plain(" ".join(text.split()))
