"""dist/cni-ovs: the command in one file, on a machine without Python, whatever ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_ovs import __version__
from cni_ovs.cli.app import COMMANDS
from tests.support.node import Node
from tests.support.plugin import REPOSITORY
from tests.support.processes import run

PROGRAM = REPOSITORY / "dist/cni-ovs"

# Folders of Python, of which nothing may be needed.
_HIDDEN = (REPOSITORY / ".venv", REPOSITORY / ".tools", REPOSITORY / "cni_ovs", *Path("/usr/lib").glob("python3*"))
_HIDE = 'for folder in {folders}; do mount -t tmpfs tmpfs "$folder"; done; {more} exec "$@"'


def without_python(*words: str | Path, more: str = "") -> list[str]:
    """A command line, on a machine without Python; `more` is what a shell does before, in mounts of its own."""
    script = _HIDE.format(folders=" ".join(str(folder) for folder in _HIDDEN if folder.is_dir()), more=more)
    return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", *map(str, words)]


def environment(temporary: Path) -> dict[str, str]:
    """Nothing but where the program unpacks itself."""
    return {"TMPDIR": str(temporary)}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder, in which nothing may be left."""
    with tempfile.TemporaryDirectory(prefix="cniovs-") as name:
        yield Path(name)
        assert os.listdir(name) == []


@pytest.fixture(autouse=True)
def _there() -> None:
    if not PROGRAM.is_file():
        pytest.fail(f"{PROGRAM} is missing: run build/binary", pytrace=False)


def test_it_needs_no_environment_and_leaves_nothing() -> None:
    look = '"$0" --version; code=$?; ls -A /tmp; exit $code'
    # /tmp is where it unpacks itself if nothing says otherwise.
    done = run(without_python("/bin/sh", "-c", look, PROGRAM, more="mount -t tmpfs tmpfs /tmp;"), env={})
    assert (done.stdout, done.stderr) == (f"cni-ovs, version {__version__}\n", "")


def test_every_command_is_in_it_and_explains_itself(temporary: Path) -> None:
    # --help has a line of each, so it imports them all.
    script = '"$0" --help && "$0" attach --help'
    output = run(without_python("/bin/sh", "-c", script, PROGRAM), env=environment(temporary)).stdout
    assert all(f"\n  {name} " in output for name in COMMANDS)
    assert "Usage: cni-ovs attach" in output and "Examples:" in output


@pytest.mark.one_target
def test_it_shows_an_open_vswitch(node: Node, temporary: Path) -> None:
    words = node.host.command(*without_python(PROGRAM, "show", "--db", node.openvswitch.remote))
    done = run(words, env=environment(temporary))
    assert node.bridge in done.stdout
    assert done.stderr == ""


def test_it_ends_with_the_exit_code_of_the_command(temporary: Path) -> None:
    codes = [
        run([PROGRAM, *words], env=environment(temporary), check=False).returncode
        for words in (["--version"], ["show", "--db", "/nonexistent/db.sock"], ["frobnicate"])
    ]
    assert codes == [0, 1, 2]


@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "terminal"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)]
)
def test_a_signal_ends_it_at_once_and_without_a_word(
    number: signal.Signals, code: int, whole_group: bool, temporary: Path, tmp_path: Path
) -> None:
    # A terminal sends Ctrl-C to both of its processes.
    with socket.socket(socket.AF_UNIX) as database:
        path = f"{tempfile.mkdtemp(dir=tmp_path)}/db"
        database.bind(path)
        database.listen()
        database.settimeout(20)
        with subprocess.Popen(
            [PROGRAM, "show", "--db", path],
            env=environment(temporary),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            connection, _ = database.accept()  # and nobody answers
            (os.killpg if whole_group else os.kill)(process.pid, number)
            stdout, stderr = process.communicate(timeout=3)
            connection.close()
    assert (process.returncode, stdout, stderr) == (code, b"", b"")


def test_a_reader_that_has_gone_is_no_error(temporary: Path) -> None:
    end, other = os.pipe()
    os.close(end)
    done = subprocess.run(
        [PROGRAM, "completion", "bash"],
        env=environment(temporary),
        stdout=other,
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )
    os.close(other)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(closed: str, temporary: Path) -> None:
    run(["/bin/sh", "-c", f'exec "$0" --version {closed}', PROGRAM], env=environment(temporary))


def test_a_folder_from_which_nothing_may_be_executed_is_named_by_an_error_and_another_one_helps(
    temporary: Path,
) -> None:
    # The text is the C library's, and docs/command.md tells what it means.
    noexec = "mount -t tmpfs -o noexec tmpfs /mnt;"
    look = 'TMPDIR=/mnt "$0" --version; code=$?; ls -A /mnt; exit $code'
    done = run(without_python("/bin/sh", "-c", look, PROGRAM, more=noexec), env={}, check=False)
    assert (done.returncode, done.stdout) == (127, "")
    assert "failed to map segment from shared object" in done.stderr
    assert "failed to map segment from shared object" in (REPOSITORY / "docs/command.md").read_text()
    run(without_python(PROGRAM, "--version", more=noexec), env=environment(temporary))


def test_it_stays_small() -> None:
    assert PROGRAM.stat().st_size < 17_000_000
