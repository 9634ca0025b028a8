"""Delegation to an IPAM plugin: another CNI plugin, started as a child process.

Whatever it does, it cannot hold up the runtime: its stdout and stderr are pipes to us, it is in a process group of
its own that is killed when our time is over, and what it leaves running holds none of our pipes' other ends.
"""

from __future__ import annotations

import posix
from _signal import SIGKILL, SIGPIPE  # type: ignore[import-not-found] # see main.py

from . import jsontext, log
from .deadline import READABLE, Deadline
from .errors import IPAM_FAILED, CniError
from .forms import is_integer
from .protocol import missing_variables
from .result import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .config import NetworkConfig
    from .protocol import Invocation
    from .result import Result

# An address is a few hundred bytes. What is beyond this is read and thrown away.
_LARGEST_ANSWER = 1 << 20
_KILL_SECONDS = 0.1
_S_IFMT, _S_IFREG = 0o170000, 0o100000  # linux/stat.h


class Delegate:
    """A running IPAM plugin.

    Args:
        command: ADD, DEL, CHECK, GC or STATUS.
        invocation, config: ours; the plugin gets the same environment, except for the command, and the same stdin.
        instead: variables that replace those of the invocation (GC removes other attachments).
        inherited: a file descriptor that the plugin gets too, and with it whatever it leaves running.

    Raises:
        CniError: IPAM_FAILED, when CNI_PATH has no such plugin, or it cannot be started.
    """

    def __init__(
        self,
        command: str,
        invocation: Invocation,
        config: NetworkConfig,
        instead: Mapping[str, str] | None = None,
        inherited: int | None = None,
    ) -> None:
        self.type = config.ipam_type or ""
        self.command = command
        environment = {**invocation.environment, **(instead or {}), "CNI_COMMAND": command}
        program = find(self.type, invocation.path)
        stdin = posix.memfd_create("cni-ovs-stdin")  # a file, not a pipe: it takes the whole text at once
        self._stdout, stdout = posix.pipe2(posix.O_CLOEXEC)
        self._stderr, stderr = posix.pipe2(posix.O_CLOEXEC)
        try:
            _write_all(stdin, config.raw)
            posix.lseek(stdin, 0, 0)
            self._pid = posix.posix_spawn(
                program,
                [program],
                environment,
                file_actions=[
                    (posix.POSIX_SPAWN_DUP2, stdin, 0),
                    (posix.POSIX_SPAWN_DUP2, stdout, 1),
                    (posix.POSIX_SPAWN_DUP2, stderr, 2),
                    # A duplicate of itself stays open in the program, and only there.
                    *([(posix.POSIX_SPAWN_DUP2, inherited, inherited)] if inherited is not None else []),
                ],
                setpgroup=0,
                setsigdef=[SIGPIPE],  # Python ignores it, and a child would inherit that
            )
        except OSError as error:
            posix.close(self._stdout)
            posix.close(self._stderr)
            raise CniError(IPAM_FAILED, f"IPAM plugin {program!r} cannot be started: {error.strerror}") from error
        finally:
            for fd in (stdin, stdout, stderr):
                posix.close(fd)
        try:
            self._process = posix.pidfd_open(self._pid)
        except OSError:
            posix.killpg(self._pid, SIGKILL)
            raise

    def finish(self, deadline: Deadline) -> Any:
        """Wait until the plugin ends; returns the JSON value it printed, or None if it printed nothing.

        Raises:
            CniError: the plugin's own code, message and details, when it answered with an error; IPAM_FAILED, when
                it died or printed something else; TRY_AGAIN_LATER, when time was over or a signal stopped us. It is
                still running then, and has to be brought to its end with `end`.
        """
        answer = b""
        last_words = b""
        watched = {self._stdout, self._stderr, self._process}
        # Its end counts, not the end of its output: something it left running may hold the pipes open.
        while self._process in watched:
            doing = f"waiting for IPAM plugin {self.type!r} ({self.command})"
            ready = {fd for fd, _ in deadline.wait(doing, *((fd, READABLE) for fd in watched))}
            if self._process in ready:
                watched.discard(self._process)
                for fd in (self._stdout, self._stderr):
                    posix.set_blocking(fd, False)  # take what is there, and no more
            for fd in (self._stdout, self._stderr):
                if fd in ready or self._process not in watched:
                    data, ended = _read_available(fd, until_empty=self._process not in watched)
                    if ended:
                        watched.discard(fd)
                    if fd == self._stdout:
                        answer = (answer + data)[: _LARGEST_ANSWER + 1]
                    else:
                        last_words = (last_words + data)[-1000:]
                        log.pass_on(data)
        status = posix.waitstatus_to_exitcode(posix.waitpid(self._pid, 0)[1])
        self._close()
        return self._judge(status, answer, last_words.decode(errors="replace").strip())

    def end(self, deadline: Deadline | None = None) -> None:
        """If the plugin has not ended yet, let it come to its end, whatever that is; kill it when the time is over.

        Killing it at once, as without a deadline, could leave an address that no DEL finds: host-local first makes the
        file of an address, and then writes into it whose it is.
        """
        if not self._pid:
            return
        try:
            if deadline is not None:
                self.finish(deadline)
        except CniError as error:
            log.debug(error.msg)
        finally:
            if self._pid:
                self._kill()
                self._close()

    def _close(self) -> None:
        """It has ended: forget its number, and close the pipes."""
        self._pid = 0
        for fd in (self._stdout, self._stderr, self._process):
            posix.close(fd)

    def _kill(self) -> None:
        try:
            posix.killpg(self._pid, SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended
        try:
            Deadline(_KILL_SECONDS).wait("waiting for the end of a killed process", (self._process, READABLE))
        except CniError:
            pass  # it hangs in the kernel (a dead network file system, say); when we end, it is init's
        posix.waitpid(self._pid, posix.WNOHANG)

    def _judge(self, status: int, answer: bytes, last_words: str) -> Any:
        if len(answer) > _LARGEST_ANSWER:
            raise self._failed(f"printed more than {_LARGEST_ANSWER} bytes", "")
        try:
            value = jsontext.decode(answer) if answer.strip() else None
        except ValueError as error:
            if status == 0:
                raise self._failed(f"printed no JSON ({error})", _excerpt(answer)) from error
            value = None
        if status == 0:
            return value
        if isinstance(value, dict):
            code, msg = value.get("code"), value.get("msg")
            # To runtimes it is an unsigned integer, of 32 bits on some.
            if is_integer(code) and 0 < code < 1 << 32 and isinstance(msg, str):
                raise CniError(code, f"IPAM plugin {self.type!r}: {msg}", str(value.get("details") or ""))
        how = (
            f"was killed by signal {-status}" if status < 0 else f"failed with exit code {status} and no error in JSON"
        )
        raise self._failed(how, last_words or _excerpt(answer))

    def _failed(self, how: str, details: str) -> CniError:
        return CniError(IPAM_FAILED, f"IPAM plugin {self.type!r} {how} ({self.command})", details)


def finish_add(delegate: Delegate, deadline: Deadline) -> Result:
    """The addresses that the IPAM plugin has given.

    Raises:
        CniError: as Delegate.finish, which may leave it running; IPAM_FAILED, when the answer is no result or has no
            address.
    """
    answer = delegate.finish(deadline)
    try:
        result = parse(answer)
    except ValueError as error:
        raise CniError(
            IPAM_FAILED, f"IPAM plugin {delegate.type!r} answered with an invalid result: {error}"
        ) from error
    if not result.ips:
        raise CniError(IPAM_FAILED, f"IPAM plugin {delegate.type!r} returned no address")
    return result


def run(
    command: str,
    invocation: Invocation,
    config: NetworkConfig,
    deadline: Deadline,
    instead: Mapping[str, str] | None = None,
) -> None:
    """Start the IPAM plugin for a command whose answer is only success or an error, and wait for it.

    Raises:
        CniError: as Delegate.finish; it is killed when time is over, because none of these commands gives an address.
    """
    delegate = Delegate(command, invocation, config, instead)
    try:
        delegate.finish(deadline)
    finally:
        delegate.end()


def _is_file(path: str) -> bool:
    try:
        return bool(posix.stat(path).st_mode & _S_IFMT == _S_IFREG)
    except (OSError, ValueError):
        return False


def find(name: str, path: str) -> str:
    """The first regular file of that name in the folders of CNI_PATH.

    Raises:
        CniError: IPAM_FAILED, when there is none; INVALID_ENVIRONMENT, when CNI_PATH is empty.
    """
    if not path:
        raise missing_variables(["CNI_PATH"])
    for folder in path.split(":"):
        candidate = f"{folder}/{name}"
        if folder and _is_file(candidate):
            return candidate
    raise CniError(
        IPAM_FAILED,
        f"IPAM plugin {name!r} is not in CNI_PATH {path!r}",
        "install it into one of these folders (Debian has its plugins in /usr/lib/cni), or correct `ipam.type`",
    )


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]


def _read_available(fd: int, *, until_empty: bool) -> tuple[bytes, bool]:
    """What can be read now, and whether the end was reached. Reads once, or until nothing is left."""
    found = b""
    while True:
        try:
            part = posix.read(fd, 1 << 16)
        except BlockingIOError:
            return found, False
        found += part
        if not part or not until_empty or len(found) > _LARGEST_ANSWER:
            return found, not part


def _excerpt(data: bytes) -> str:
    return data[:200].decode(errors="backslashreplace").strip()
