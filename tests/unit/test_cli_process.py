"""How the command ends, whatever happens: with commands that do it, each in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tests.support.plugin import REPOSITORY

# A command that does what the text says, as `cni-ovs` carries out any command.
PROGRAM = """\
import os, signal, sys, time
import click
from cni_ovs.cli import output, process
from cni_ovs.cli.failure import Failure

@click.command()
@click.option("--vlan", type=int)
def command(vlan):
{body}

if {frozen}:
    sys.frozen = True
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.exit(process.run(command))
"""


def start(
    body: str,
    *words: str,
    frozen: bool = False,
    shell: str = "",
    env: dict[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[str]:
    """Starts such a program; `shell` is what a shell says behind it, as `>/dev/full`."""
    program = PROGRAM.format(body=textwrap.indent(body, "    "), frozen=frozen)
    return subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" "$@" {shell}', sys.executable, "-c", program, *words],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"], **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        pass_fds=pass_fds,
    )


def run(
    body: str, *words: str, frozen: bool = False, shell: str = "", env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of such a program."""
    process = start(body, *words, frozen=frozen, shell=shell, env=env)
    stdout, stderr = process.communicate(timeout=20)
    return process.returncode, stdout, stderr


def test_a_command_that_does_its_work_ends_with_0() -> None:
    assert run("click.echo('done')") == (0, "done\n", "")


def test_a_failure_is_one_line_and_what_to_do() -> None:
    code, stdout, stderr = run("raise Failure('bridge br0 is missing', 'ovs-vsctl add-br br0')")
    assert (code, stdout) == (1, "")
    assert stderr == "cni-ovs: bridge br0 is missing\n  to do: ovs-vsctl add-br br0\n"


def test_an_error_of_the_plugin_is_told_in_the_words_of_the_command() -> None:
    body = "from cni_ovs.plugin.errors import CniError\nraise CniError(11, 'not there', 'is `socket_file` right?')"
    assert run(body) == (1, "", "cni-ovs: not there\n  to do: is --db right?\n")


def test_what_a_failure_quotes_cannot_command_the_terminal() -> None:
    code, _, stderr = run(r"raise Failure('port \x1b[2J\r\n\u202e\ud800 is odd')")
    assert code == 1
    assert stderr == "cni-ovs: port \\x1b[2J \\u202e\\ud800 is odd\n"


def test_a_mistake_in_the_command_line_is_told_in_the_same_form() -> None:
    code, stdout, stderr = run("pass", "--vlan", "x")
    assert (code, stdout) == (2, "")
    assert stderr == ("cni-ovs: invalid value for '--vlan': 'x' is not a valid integer\n  to do: cni-ovs --help\n")


@pytest.mark.parametrize(("body", "code"), [("sys.exit(3)", 3), ("click.get_current_context().exit(4)", 4)])
def test_a_command_may_choose_its_exit_code(body: str, code: int) -> None:
    assert run(body) == (code, "", "")


def test_a_text_to_exit_with_is_a_failure() -> None:
    assert run("sys.exit('gone')") == (1, "", "cni-ovs: gone\n")


def test_a_defect_is_one_line_with_its_place_and_what_to_report() -> None:
    code, stdout, stderr = run("{}['ports']")
    assert (code, stdout) == (1, "")
    first, second = stderr.splitlines()
    assert first.startswith("cni-ovs: KeyError: 'ports' (<string>, line ")
    assert "report it" in second and "CNI_OVS_DEBUG=1" in second


def test_the_traceback_is_for_those_who_ask_for_it() -> None:
    code, _, stderr = run("{}['ports']", env={"CNI_OVS_DEBUG": "1"})
    assert code == 1
    assert stderr.startswith("Traceback (most recent call last):\n")
    assert "cni-ovs: KeyError: 'ports'" in stderr


def test_an_error_of_the_system_names_the_file() -> None:
    assert run("open('/nonexistent/file')") == (1, "", "cni-ovs: /nonexistent/file: No such file or directory\n")


def test_a_reader_that_has_enough_is_no_error() -> None:
    with start("time.sleep(0.3)\nfor number in range(100000): click.echo(number)") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 1


def test_another_pipe_that_breaks_is_an_error() -> None:
    body = "end, other = os.pipe()\nos.close(end)\nos.write(other, b'x')"
    assert run(body) == (1, "", "cni-ovs: Broken pipe\n")


def test_a_full_disk_is_told() -> None:
    code, _, stderr = run("click.echo('x')", shell=">/dev/full")
    assert (code, stderr) == (1, "cni-ovs: No space left on device\n")


def test_closed_streams_do_not_matter() -> None:
    body = (
        "assert sys.stdin.read() == ''\n"
        "click.echo('x')\noutput.console().print('x')\n"
        "assert os.open('/etc/passwd', os.O_RDONLY) > 2\n"
        "click.echo('x', err=True)\n"
        "sys.exit(7)"
    )
    assert run(body, shell="<&- >&- 2>&-") == (7, "", "")


def test_a_terminal_that_lacks_a_character_gets_its_number() -> None:
    nothing = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # ASCII and nothing else
    code, stdout, stderr = run("print('a \\u2026')\noutput.console().print('b \\u2026')", env=nothing)
    assert (code, stderr) == (0, "")
    assert stdout == "a \\u2026\nb \\u2026\n"


def test_without_a_locale_utf_8_is_printed() -> None:
    assert run("print('\\u2026')", env={"LANG": "C"}) == (0, "\u2026\n", "")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_have_them_and_people_who_want_them(
    variables: dict[str, str], coloured: bool
) -> None:
    body = "output.console().print('worded', style='red')"
    env = {"TERM": "xterm", **variables}
    assert run(body, env=env)[1] == "worded\n"  # a pipe
    master, slave = pty.openpty()
    with start(body, shell=f">/dev/fd/{slave}", env=env, pass_fds=(slave,)) as process:
        assert process.wait(20) == 0
    os.close(slave)
    printed = os.read(master, 100).decode()
    os.close(master)
    assert "worded" in printed
    assert ("\x1b[31m" in printed) == coloured


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_is_an_interrupt_once_and_ends_without_a_word(times: int) -> None:
    body = (
        "try:\n    print('begun', flush=True)\n    time.sleep(20)\n"
        "finally:\n    time.sleep(0.2)\n    print('undone', flush=True)"
    )
    with start(body) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert process.stdout.read() == "undone\n"
        assert process.stderr.read() == ""
        assert process.wait(20) == 130


def test_ctrl_c_stays_ignored_where_it_is() -> None:
    # As it is for what a script starts in the background.
    body = "os.kill(os.getpid(), signal.SIGINT)\nprint('goes on')"
    ignoring = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{PROGRAM}".replace(
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n", ""
    ).format(body=textwrap.indent(body, "    "), frozen=False)
    done = subprocess.run(
        [sys.executable, "-c", ignoring],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")


def test_a_question_that_nobody_answers_is_told() -> None:
    code, _, stderr = run("click.confirm('sure?', abort=True)")
    assert (code, stderr.splitlines()[-1]) == (1, "cni-ovs: not confirmed")


def test_programs_that_the_frozen_command_starts_get_the_libraries_of_the_machine() -> None:
    body = "os.execv('/usr/bin/env', ['env'])"
    bootloader = {"LD_LIBRARY_PATH": "/tmp/_MEI1"}
    assert "LD_LIBRARY_PATH" not in run(body, frozen=True, env=bootloader)[1]
    _, stdout, _ = run(body, frozen=True, env={"LD_LIBRARY_PATH_ORIG": "/opt/lib", **bootloader})
    assert "LD_LIBRARY_PATH=/opt/lib\n" in stdout and "_ORIG" not in stdout
    assert "LD_LIBRARY_PATH=/tmp/_MEI1\n" in run(body, env=bootloader)[1]


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_json_is_json_for_any_terminal(encoding: str) -> None:
    env = {"PYTHONIOENCODING": encoding}
    code, stdout, stderr = run("output.print_json({'a': '\\u0101\\u2026\\U0001f600\\ud800'})", env=env)
    assert (code, stderr) == (0, "")
    assert json.loads(stdout) == {"a": "\u0101\u2026\U0001f600\ud800"}


def test_a_shell_gets_no_answer_rather_than_a_late_one() -> None:
    program = """\
import sys, time
import click
from cni_ovs.cli import process

@click.command()
@click.argument("name", shell_complete=lambda *_: time.sleep(20))
def command(name):
    pass

sys.exit(process.run(command))
"""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": str(REPOSITORY),
            "_CNI_OVS_COMPLETE": "bash_complete",
            "COMP_WORDS": "cni-ovs ",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert time.monotonic() - begin < 3
    assert (done.stdout, done.stderr) == (b"", b"")
