"""What `cni-ovs` says before any command does something."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from cni_ovs import __version__
from cni_ovs.cli.app import COMMANDS, SECTIONS
from tests.support.plugin import REPOSITORY


def run(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    done = subprocess.run(
        [sys.executable, "-m", "cni_ovs.cli", *words],
        env={"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_command_that_does_not_exist_is_told_with_the_nearest_one() -> None:
    expected = "cni-ovs: there is no command 'shwo'; did you mean 'show'?\n  to do: cni-ovs --help\n"
    assert run("shwo") == (2, "", expected)
    assert run("frobnicate") == (2, "", "cni-ovs: there is no command 'frobnicate'\n  to do: cni-ovs --help\n")


def test_an_option_that_does_not_exist_is_told_with_the_command_that_has_not_got_it() -> None:
    assert run("detach", "--dbb") == (
        2,
        "",
        "cni-ovs detach: no such option '--dbb'. Did you mean '--db'?\n  to do: cni-ovs detach --help\n",
    )


def test_a_name_that_is_an_order_to_the_terminal_is_shown_and_not_obeyed() -> None:
    code, _, stderr = run("\x1b[2J")
    assert code == 2 and "\x1b" not in stderr


def test_without_words_it_explains_itself_and_that_is_no_success() -> None:
    code, stdout, stderr = run()
    assert (code, stdout) == (2, "")
    assert stderr == run("--help")[1]


def test_version_names_the_program() -> None:
    assert run("--version") == (0, f"cni-ovs, version {__version__}\n", "")


def test_help_arranges_every_command_under_what_it_is_for() -> None:
    code, stdout, _ = run("-h")
    assert code == 0
    assert "Other:" not in stdout
    for title, names in SECTIONS.items():
        assert (f"\n{title}:\n" in stdout) == bool(set(names) & set(COMMANDS))
    for name in COMMANDS:
        assert f"\n  {name} " in stdout


def test_every_section_is_of_different_commands() -> None:
    names = [name for section in SECTIONS.values() for name in section]
    assert len(names) == len(set(names))
    assert set(COMMANDS) <= set(names)


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_fits_80_columns_and_keeps_its_examples_apart(words: list[str]) -> None:
    code, stdout, _ = run(*words, "--help")
    assert code == 0
    assert max(map(len, stdout.splitlines())) <= 80
    assert "\b" not in stdout and "\\b" not in stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained_and_so_is_each_of_its_options(name: str) -> None:
    command = importlib.import_module(f"cni_ovs.cli.commands.{name}").command
    assert command.help
    for option in command.params:
        assert option.param_type_name == "argument" or option.help, option.name
