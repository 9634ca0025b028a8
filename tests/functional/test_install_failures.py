"""build/cni-ovs-install killed, not alone, or without room: `ovs` stays whole, and the next run repairs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.installer import INSTALLER, another, answers, entries, image, install, linked
from tests.support.plugin import PATH
from tests.support.processes import run


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """The node's folder of plugins, which does not exist yet."""
    return tmp_path / "cni bin"


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Four images with different stand-ins for the plugin: the installer alone matters here."""
    made = [image(tmp_path / "image0", stand_in=True)]
    for number in range(1, 4):
        made.append(another(made[-1], tmp_path / f"image{number}"))
    return made


@pytest.mark.parametrize("before", ["version", "copied"])
def test_a_run_killed_at_any_step_leaves_a_whole_plugin_and_the_next_one_repairs(
    images: list[Path], destination: Path, tmp_path: Path, before: str
) -> None:
    """Each program that the script starts is replaced by one that, when it is the n-th, kills all of the run."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in run(["busybox", "--list"]).stdout.split():
        program = shutil.which(name, path=PATH)
        if program and name != "busybox":
            (tools / name).write_text(
                '#!/bin/sh\nset -C\nn=1\nuntil true 2>/dev/null >"$STEPS/$n"; do n=$((n + 1)); done\n'
                f'[ $n != "$KILLED_AT" ] || kill -KILL 0\nexec {program} "$@"\n'
            )
            (tools / name).chmod(0o755)
    destination.mkdir()
    shutil.copy2(images[0] / "ovs", destination / "ovs")
    if before == "version":
        install(images[0], destination)
    new = install(images[1], shutil.copytree(destination, tmp_path / "finished", symlinks=True))

    def run_killed_at(number: int) -> tuple[int, int]:
        """The exit code of an update, and how many programs it has started."""
        folder = Path(shutil.copytree(destination, tmp_path / f"node{number}", symlinks=True))
        steps = tmp_path / f"steps{number}"
        steps.mkdir()
        environment = {"PATH": str(tools), "STEPS": str(steps), "KILLED_AT": str(number)}
        command = [str(shutil.which("sh")), str(images[1] / INSTALLER), str(folder)]
        code = subprocess.run(
            command, env=environment, start_new_session=True, capture_output=True, timeout=30, check=False
        ).returncode
        assert answers(folder / "ovs")
        assert install(images[1], folder) == new
        assert answers(folder / "ovs")
        assert entries(folder) == entries(tmp_path / "finished")
        return code, len(list(steps.iterdir()))

    code, steps = run_killed_at(0)
    assert code == 0 and steps > 20
    with ThreadPoolExecutor(16) as pool:  # Most of the time the next run waits for a sign of life of the killed one.
        outcomes = list(pool.map(run_killed_at, range(1, steps + 1)))
    assert [code for code, _ in outcomes] == [-9] * steps


def test_runs_at_the_same_time_all_succeed(images: list[Path], destination: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            outputs = pool.map(lambda source: run([source / INSTALLER, destination]).stdout, images * 2)
            versions = {word for output in outputs for word in output.split() if word.startswith(".ovs-")}
            assert len(versions) == 4
            assert linked(destination) in versions
            assert answers(destination / "ovs")
    assert entries(destination) == sorted([*versions, "ovs"])


def test_a_full_or_read_only_file_system_changes_nothing(images: list[Path], destination: Path) -> None:
    for number, source in enumerate(images[:2]):
        with (source / "ovs").open("a") as program:
            program.write(f"exit\n{number}" + "\n" * 3_000_000)
    destination.mkdir()
    script = """
        set -e
        list() { ls -A "$there" | grep -v mirror; }
        refused() { if "$new" "$there" 2>&1; then exit 1; fi; list; CNI_COMMAND=VERSION "$there/ovs"; }
        there=$1 old=$2 new=$3
        mount -t tmpfs -o size=5m tmpfs "$there"
        "$old" "$there"
        refused
        mount -o remount,ro "$there"
        "$old" "$there"
        refused
        mount -o remount,rw,size=8m "$there"
        "$new" "$there"
        list
    """
    programs = [source / INSTALLER for source in images[:2]]
    output = run(["unshare", "--mount", "sh", "-c", script, "sh", destination, *programs]).stdout
    pattern = r"""
        cni-ovs-install:\ \S+\ bin/ovs\ is\ now\ (?P<old>\S+)\n
        (cp:\ .*:\ No\ space\ left\ on\ device\n)+
        cni-ovs-install:\ cannot\ copy\ the\ plugin\ to\ .*;\ nothing\ was\ changed\n
        (?P=old)\n ovs\n .*supportedVersions.*\n
        cni-ovs-install:\ .*\ (?P=old)\ already\n
        mktemp:\ .*Read-only\ file\ system\n
        cni-ovs-install:\ cannot\ write\ to\ .*;\ nothing\ was\ changed\n
        (?P=old)\n ovs\n .*supportedVersions.*\n
        cni-ovs-install:\ .*\ is\ now\ (?P<new>\S+)\n
        ((?P=old)\n | (?P=new)\n){2} ovs\n
    """
    assert re.fullmatch(pattern, output, re.VERBOSE), output


def test_a_source_that_changes_meanwhile_is_noticed(images: list[Path], destination: Path) -> None:
    """As when build/binary runs at the same time; here the copying program adds to what it has copied."""
    tools = Path(tempfile.mkdtemp(dir=destination.parent))
    (tools / "cp").write_text(f'#!/bin/sh\n{shutil.which("cp")} "$@"\nfor copy; do :; done\necho more >>"$copy"\n')
    (tools / "cp").chmod(0o755)
    done = run([images[0] / INSTALLER, destination], env={"PATH": f"{tools}:{PATH}"}, check=False)
    assert done.returncode == 1
    assert "changed while it was copied" in done.stderr
    assert entries(destination) == []


def test_without_a_built_plugin_it_says_what_to_do_and_changes_nothing(images: list[Path], destination: Path) -> None:
    empty = destination.parent / "empty"
    empty.mkdir()
    done = run([images[0] / INSTALLER, "--from", empty, destination], check=False)
    assert done.returncode == 1
    assert f"{empty}/ovs does not exist" in done.stderr and "--from DIR" in done.stderr
    assert not destination.exists()


def test_a_folder_called_ovs_is_refused(images: list[Path], destination: Path) -> None:
    (destination / "ovs").mkdir(parents=True)
    done = run([images[0] / INSTALLER, destination], check=False)
    assert done.returncode == 1
    assert "ovs is a folder: remove it first" in done.stderr
    assert entries(destination) == ["ovs"]


def test_a_destination_that_is_a_file_is_refused(images: list[Path], destination: Path) -> None:
    destination.write_text("")
    done = run([images[0] / INSTALLER, destination], check=False)
    assert done.returncode == 1
    assert "is not a folder and cannot be made one" in done.stderr


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_no_error(images: list[Path], word: str) -> None:
    done = run([images[0] / INSTALLER, word])
    assert done.stdout.startswith("Puts the frozen plugin") and "--from DIR" in done.stdout


@pytest.mark.parametrize("words", [[], ["--unknown", "x"], ["one", "two"], ["--from"], [""]])
def test_a_wrong_command_line_is_answered_with_the_usage(images: list[Path], words: Sequence[str]) -> None:
    done = run([images[0] / INSTALLER, *words], check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr
