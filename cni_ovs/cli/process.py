"""The process: its streams and signals, how an error is told, and the exit code. See docs/command.md, "Exit codes"."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import select
import signal
import sys
import time
import traceback
from types import FrameType
from typing import IO, NoReturn

import click
from click.shell_completion import shell_complete

from cni_ovs import __version__
from cni_ovs.plugin.errors import CniError

from .app import app
from .failure import Failure, from_plugin, one_line

NAME = "cni-ovs"
COMPLETE = "_CNI_OVS_COMPLETE"  # the variable by which a shell asks (click's name for it)
DEBUG = "CNI_OVS_DEBUG"

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_COMPLETION_SECONDS = 1.0
_SAME_KEYPRESS = 0.5  # seconds


def run(command: click.Command = app) -> int:
    """Carry out the command line of this process, and tell what goes wrong; the exit code."""
    _complete_streams()
    _forget_the_bootloader()
    try:
        code = _carry_out(command)
    except BaseException as error:  # noqa: BLE001 - this is where all of them end
        code = _exit_code(error)
    finally:
        _flush()
    return code


def _carry_out(command: click.Command) -> int:
    if COMPLETE in os.environ:
        _bound_completion()
        return shell_complete(command, {}, NAME, COMPLETE, os.environ[COMPLETE])
    _take_interrupts()
    with command.make_context(NAME, sys.argv[1:]) as context:
        command.invoke(context)
    sys.stdout.flush()
    return 0


def _exit_code(error: BaseException) -> int:
    """Tells what was wrong."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return _tell(Failure(error.code)) if isinstance(error.code, str) else error.code or 0
    if isinstance(error, click.Abort) and isinstance(error.__context__, KeyboardInterrupt):  # of a question
        error = error.__context__
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # see _take_interrupts
        if sys.stderr.isatty():
            click.echo(err=True)  # The terminal has written ^C, and the shell goes on behind it.
        return _INTERRUPTED
    if isinstance(error, click.Abort):
        return _tell(Failure("not confirmed"))
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return _FAILED
    if COMPLETE in os.environ:
        return _FAILED  # in the middle of a line that is being typed
    if isinstance(error, click.UsageError):
        return _tell_usage(error)
    if os.environ.get(DEBUG):
        with contextlib.suppress(OSError):
            traceback.print_exception(error)
    return _tell(_failure(error))


def _tell(failure: click.ClickException) -> int:
    with contextlib.suppress(OSError):  # there is nobody to tell
        failure.show()
    return failure.exit_code


def _tell_usage(error: click.UsageError) -> int:
    """In the same form as any other failure. Without any words there is all of --help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return _tell(error)
    message = one_line(error.format_message()).removesuffix(".")
    path = error.ctx.command_path if error.ctx else NAME
    failure = Failure(message[:1].lower() + message[1:], f"{path} --help", command=path)
    _tell(failure)
    return _USAGE


def _failure(error: BaseException) -> click.ClickException:
    """What a user is told of an exception."""
    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, CniError):
        return from_plugin(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        denied = isinstance(error, PermissionError) and os.geteuid() != 0
        return Failure(f"{where}{error.strerror}", "run it as root" if denied else "")
    place = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    where = f" ({os.path.basename(place.filename)}, line {place.lineno})" if place else ""
    return Failure(
        f"{type(error).__name__}: {error}{where}",
        f"this is a defect of {NAME} {__version__}: report it, with what the same command prints with {DEBUG}=1",
    )


def _flush() -> None:
    """Whatever could not be written by now never will be; the interpreter shall not try it again, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


def _nobody_reads() -> bool:
    """Whether it is stdout that is a pipe without a reader, as behind `| head`, and not some socket."""
    poll = select.poll()
    poll.register(1, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


# What the process is given


def _complete_streams() -> None:
    """Stand in for streams that are closed, and let no character that a terminal does not know be an error.

    Else the next file that is opened gets the number, and what is printed is written to it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest free number: this
    sys.stdin = _complete(sys.stdin, 0, "r")
    sys.stdout = _complete(sys.stdout, 1, "w")
    sys.stderr = _complete(sys.stderr, 2, "w")


def _complete(stream: IO[str] | None, number: int, mode: str) -> IO[str]:
    if stream is None:  # it was closed
        return open(number, mode, closefd=False, encoding="utf-8")
    if mode == "w" and isinstance(stream, io.TextIOWrapper):
        codecs.register_error("json", _escape)
        stream.reconfigure(errors="json")
    return stream


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a stream cannot carry: the escapes of JSON, for that is what may be printed."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _forget_the_bootloader() -> None:
    """Take back what PyInstaller's bootloader adds to the environment: programs that we start have their own libraries.

    See "LD_LIBRARY_PATH / LIBPATH considerations" in PyInstaller's manual.
    """
    if not getattr(sys, "frozen", False):
        return
    os.environ.pop("LD_LIBRARY_PATH", None)
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before


# Signals


def _take_interrupts() -> None:
    """Let Ctrl-C be a KeyboardInterrupt from here on, unless it is ignored (as it is in the background of a script).

    The frozen command is two processes. A terminal interrupts both, and the first one passes it on to the second, so
    what comes within a moment is the same key. Else it would interrupt what the first one made us undo.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        return
    last = float("-inf")

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > _SAME_KEYPRESS:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def _bound_completion() -> None:
    """Answer a shell within a second, or not at all, whatever it is that takes so long: somebody is typing."""

    def give_up(_: int, __: FrameType | None) -> NoReturn:
        os._exit(_FAILED)

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _COMPLETION_SECONDS)
