"""How a command fails: one line that says what is wrong, and one that says what to do."""

from __future__ import annotations

from typing import IO, Any

import click

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


def one_line(text: str) -> str:
    """A text that may be anybody's, in one line and with escapes for what would be an order to the terminal."""
    return plain(" ".join(text.split()))
