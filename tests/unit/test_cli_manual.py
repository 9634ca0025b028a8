"""The manual page says what the commands say, in a form that man(1) reads without a warning."""

from __future__ import annotations

import shutil
import subprocess

import click
import pytest

from build.manpage.__main__ import escaped, page
from cni_ovs.cli.app import COMMANDS, app
from tests.support.plugin import REPOSITORY

PAGE = REPOSITORY / "docs/cni-ovs.1"


def output(*command: str) -> str:
    """What a formatter prints; it has no complaint."""
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "200"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_page_is_that_of_these_commands() -> None:
    assert PAGE.read_text() == page(), "build/manual writes it anew"


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_groff_has_no_warning() -> None:
    output("groff", "-man", "-Tutf8", "-ww", "-K", "utf8", str(PAGE))


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_every_command_and_every_option_can_be_read() -> None:
    text = output("groff", "-man", "-Tascii", "-P-cbou", "-K", "utf8", "-rLL=200n", str(PAGE))
    context = click.Context(app, info_name="cni-ovs")
    for name in COMMANDS:
        assert f"cni-ovs {name} " in text
        command = app.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[-1] in text


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
def test_man_has_no_warning() -> None:
    assert "EXIT STATUS" in output("man", "--warnings", "-E", "UTF-8", "-l", str(PAGE))


@pytest.mark.parametrize("text", [".so /etc/passwd", "'br", r"a\n(.z\fB", '"quoted" - and -- dashed', "x\n.sp 5\ny"])
@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_nothing_in_a_text_means_anything_to_roff(text: str) -> None:
    source = f".TH X 1\n.SH NAME\n.nf\n{escaped(text)}\n"
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-P-cbou", "-ww"],
        input=source,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stderr == ""
    assert [line for line in text.splitlines() if line not in done.stdout] == []
