"""The log: which lines are written, where, and that nothing which is wrong with it ends a command."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from cni_ovs.plugin import log
from tests.unit.tools import within

WRITERS = {"debug": log.debug, "info": log.info, "warning": log.warning, "error": log.error}


@pytest.mark.parametrize("level", log.LEVELS)
def test_lines_below_the_level_are_left_out(level: str, capfd: pytest.CaptureFixture[str]) -> None:
    log.configure(level, None)
    for name, write in WRITERS.items():
        write(f"a line of {name}")
    written = log.LEVELS[log.LEVELS.index(level) :]
    captured = capfd.readouterr()
    assert captured.err == "".join(f"cni-ovs: {name}: a line of {name}\n" for name in written)
    assert captured.out == ""


def test_info_is_the_level_of_a_new_process(capfd: pytest.CaptureFixture[str]) -> None:
    log.debug("no")
    log.info("yes")
    assert capfd.readouterr().err == "cni-ovs: info: yes\n"


def test_the_file_gets_each_line_with_time_and_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log.configure("info", str(path))
    log.info("ä\udcff")
    log.error("b")
    first, second, third = path.read_text().splitlines()
    assert first == "before"
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[{os.getpid()}\] info: ä\\udcff", second)
    assert third.endswith("error: b")
    assert capfd.readouterr().err.endswith("cni-ovs: error: b\n")


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log.configure("info", str(tmp_path / "log"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "log").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        log.configure("info", str(tmp_path / "log"))


def test_a_fifo_without_a_reader_stops_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with within(5), pytest.raises(OSError, match="No such device"):
        log.configure("info", str(tmp_path / "log"))


def test_a_full_disk_fails_nothing() -> None:
    log.configure("info", "/dev/full")
    log.error("a line that cannot be written")


def test_a_stderr_that_is_closed_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    log.error("a line that cannot be written")


def test_a_stderr_that_cannot_say_it_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stderr", stream)
    log.error("ä line that cannot be written")


def test_a_stderr_that_nobody_reads_any_more_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as raw:
        stream = io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr(sys, "stderr", stream)
        log.error("a line that cannot be written")
        stream.detach()
