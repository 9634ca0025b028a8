"""Asking runtimes which containers they run: programs and servers that answer late, wrongly, or not at all."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_ovs.cli import runtimes, targets
from cni_ovs.cli.runtimes import Container

PID = os.getpid()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder of PATH, so of no runtime there is a program but of those that a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    monkeypatch.setenv("CONTAINERD_ADDRESS", "/nonexistent")
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    file.chmod(0o755)


def printing(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.txt").write_text(text)
    program(folder, name, f"cat '{folder}/{name}.txt'")


LISTED = {"Id": "a" * 64, "Names": ["web"], "Pid": PID, "Labels": None}


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{}",
        "5",
        '["x"]',
        "[" * 200_000,
        '[{"Id": {}, "Pid": "x"}]',
        '[{"Id": "x", "Pid": null}]',
        "\x00",
        json.dumps([{"Id": "x", "Names": 5, "Pid": 1}]),
    ],
)
def test_an_answer_of_another_form_is_a_complaint_at_most(folder: Path, text: str) -> None:
    printing(folder, "podman", text)
    answer = runtimes.containers()
    assert answer.containers == []
    assert all("podman does not say which containers it runs" in complaint for complaint in answer.complaints)


def test_one_that_is_odd_keeps_nobody_from_the_others(folder: Path) -> None:
    printing(folder, "podman", json.dumps([{"Id": "x"}, LISTED, 5]))
    answer = runtimes.containers()
    assert [container.names for container in answer.containers] == [("web",)]
    assert len(answer.complaints) == 1


def test_one_that_has_just_ended_keeps_nobody_from_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = json.dumps({"Labels": {"nerdctl/name": "web"}, "Spec": {}})
    with socket.socket(socket.AF_UNIX) as there:
        address = f"{folder}/c.sock"
        there.bind(address)
        monkeypatch.setenv("CONTAINERD_ADDRESS", address)
        tasks = f"echo TASK PID STATUS; echo gone 4711 RUNNING; echo web {PID} RUNNING; echo old 0 STOPPED"
        info_of = f"case $* in *gone*) echo gone: not found >&2; exit 1;; *) echo '{info}';; esac"
        program(
            folder, "ctr", f"case $* in *namespaces*) echo default;; *tasks*) {tasks};; *) {info_of.rstrip(';')};; esac"
        )
        answer = runtimes.containers()
    assert [(container.id, container.names) for container in answer.containers] == [("web", ("web",))]


def test_a_program_that_hangs_is_asked_once_and_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_SECONDS", 0.3)
    program(folder, "podman", "exec sleep 60")
    begin = time.monotonic()
    answer = runtimes.containers()
    assert time.monotonic() - begin < 2
    assert answer.complaints == ["podman does not say which containers it runs: podman did not answer in 0.3 s"]


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A server of Docker's API; by path what it answers. What is not there is 404, and b"" comes byte by byte."""
    answers: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            if body:
                self.wfile.write(body)
            while body == b"" and not stop.wait(0.05):
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return ""

    stop = threading.Event()
    short = tempfile.mkdtemp(prefix="cniovs-")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{short}/d")
    with socketserver.ThreadingUnixStreamServer(f"{short}/d", Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield answers
        stop.set()
        server.shutdown()
    shutil.rmtree(short)


def test_docker_tells_of_those_that_are_still_there(docker: dict[str, bytes]) -> None:
    listed = [{"Id": "gone", "Names": ["/old"]}, {"Id": "b" * 64, "Names": ["/web"], "Labels": {"a": "b"}}]
    docker["/containers/json"] = json.dumps(listed).encode()
    docker[f"/containers/{'b' * 64}/json"] = json.dumps({"State": {"Pid": PID}}).encode()
    answer = runtimes.containers()
    assert [(container.runtime, container.names, container.pid) for container in answer.containers] == [
        ("docker", ("web",), PID)
    ]
    assert "404" in answer.complaints[0]


def test_an_answer_that_never_ends_has_an_end(docker: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_SECONDS", 0.3)
    docker["/containers/json"] = b""
    begin = time.monotonic()
    assert runtimes.containers().complaints == ["docker does not say which containers it runs: it takes too long"]
    assert time.monotonic() - begin < 2


def test_an_empty_word_is_no_name_of_a_container_without_a_pod() -> None:
    nameless = Container("podman", "c" * 64, (), "", False, PID)
    assert targets._matching("", [nameless]) == []
    assert targets._matching("ccc", [nameless]) == [nameless]
