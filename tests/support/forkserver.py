"""A process that has loaded the operator's command, and forks for each run of it: three quarters of a run are imports.

A run is a process of its own, with the arguments, environment, working directory, streams and network namespace that it
is given, as one that an interpreter is started for. (How that starts is tested in tests/unit/test_cli_process.py.)
"""

from __future__ import annotations

import atexit
import importlib
import io
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

_LARGEST = 1 << 17  # bytes of a request; what is larger is run by an interpreter


class ForkServer:
    """The process; it ends with this one."""

    def __init__(self, python: str, repository: str) -> None:
        """Starts it; the first run waits until everything is loaded."""
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with control:
            self._process = subprocess.Popen(
                [python, "-m", "tests.support.forkserver", str(control.fileno())],
                cwd=repository,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": repository},
                pass_fds=[control.fileno()],
            )
        atexit.register(self._end)

    def _end(self) -> None:
        self._control.close()
        self._process.wait(10)

    def run(
        self, words: Sequence[str], netns: str, environment: Mapping[str, str], stdin: str, timeout: float
    ) -> tuple[int, str, str] | None:
        """Exit code, stdout and stderr of the command with these words.

        Returns:
            None if this is too much for a request.

        Raises:
            subprocess.TimeoutExpired: it is killed then.
        """
        values = {"words": list(words), "netns": netns, "environment": dict(environment), "cwd": os.getcwd()}
        request = json.dumps(values).encode()
        if len(request) > _LARGEST:
            return None
        end = time.monotonic() + timeout
        streams = [os.fdopen(os.memfd_create(name), "w+b", buffering=0) for name in ("stdin", "stdout", "stderr")]
        try:
            streams[0].write(stdin.encode())
            streams[0].seek(0)
            socket.send_fds(self._control, [request], [stream.fileno() for stream in streams])
            pid = int(self._control.recv(64))
            if not select.select([self._control], [], [], max(0.0, end - time.monotonic()))[0]:
                os.kill(pid, signal.SIGKILL)
                self._control.recv(64)
                raise subprocess.TimeoutExpired(list(words), timeout)
            code = int(self._control.recv(64))
            printed = [os.pread(stream.fileno(), 1 << 30, 0) for stream in streams[1:]]
        finally:
            for stream in streams:
                stream.close()
        # As subprocess has them with text=True.
        stdout, stderr = (data.decode().replace("\r\n", "\n").replace("\r", "\n") for data in printed)
        return code, stdout, stderr


def _serve(control: socket.socket) -> None:
    from cni_ovs.cli import __main__, app  # noqa: PLC0415 - what imports this file needs none of it

    for name in app.COMMANDS:
        importlib.import_module(f"cni_ovs.cli.commands.{name}")
    while True:
        request, fds, *_ = socket.recv_fds(control, _LARGEST, 3)
        if not request:
            return
        pid = os.fork()
        if not pid:
            control.close()
            _become(json.loads(request), fds, __main__.main)
        for fd in fds:
            os.close(fd)
        control.send(str(pid).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become(request: dict[str, Any], fds: list[int], main: Callable[[], None]) -> NoReturn:
    """Be the run that is wanted."""
    code = 1
    try:
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        os.closerange(3, max(fds) + 1)
        _enter(request["netns"])
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        random.seed()
        # As an interpreter opens them without a locale.
        sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape")
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        sys.argv = ["cni-ovs", *request["words"]]
        try:
            main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:  # noqa: BLE001 - an interpreter tells all of them
            traceback.print_exc()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        code = code or 120  # as an interpreter's, when it cannot write any more
    finally:
        os._exit(code)


def _enter(netns: str) -> None:
    from cni_ovs.plugin.setns import setns  # noqa: PLC0415 - as above

    with io.FileIO(netns) as file:
        setns(file.fileno(), 0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
