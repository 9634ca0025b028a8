"""How a command fails: one line that says what is wrong, and one that says what to do."""

from __future__ import annotations

from typing import IO, Any

import click


class Failure(click.ClickException):
    """What was asked for could not be done; exit code 1.

    Args:
        message: what is wrong, with its value; one line.
        remedy: what to do, in one line; "" where the message says it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it to stderr."""
        click.echo(f"cni-ovs: {self.message}", file=file, err=file is None)
        if self.remedy:
            click.echo(f"  to do: {self.remedy}", file=file, err=file is None)
