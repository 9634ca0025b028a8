"""The measures. Each goes through the plugins in turn, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from build.benchmark.container import IFNAME, Container
from build.benchmark.cost import Calls, Memory, trace
from build.benchmark.machine import Machine
from build.benchmark.plugins import IPAMS, RESPONDER, STATIC, Plugin, environment
from build.benchmark.process import Outcome, Process, run_at_once
from build.benchmark.results import Cell, Results

T = TypeVar("T")
LATE = 0.9  # seconds; so long after the first echo request the kernel is about to repeat its ARP request
Command = tuple[list[str], dict[str, str], bytes]  # words, environment, stdin


def say(text: str) -> None:
    """Progress, for the person who waits."""
    print(f"build/bench: {text}", file=sys.stderr, flush=True)


def in_turn(entries: Sequence[T], number: int) -> list[T]:
    """The entries, beginning with another one in each round, and every second time backwards.

    So each comes equally often at each place, and equally often before and after each other one.
    """
    start = number // 2 % len(entries)
    turned = [*entries[start:], *entries[:start]]
    return turned[::-1] if number % 2 else turned


class Bench:
    """The plugins on the machine, and the results so far."""

    def __init__(self, machine: Machine, plugins: Sequence[Plugin], results: Results) -> None:
        """Measures nothing yet."""
        self.machine = machine
        self.plugins = plugins
        self.results = results
        self._memory: Memory | None = None

    def present(self) -> list[Plugin]:
        """Those to whom the ports on the Open vSwitch bridge make a difference, and all while there are none."""
        return [plugin for plugin in self.plugins if plugin.on_ovs or not self.machine.ports]

    def attach(self, runs: int, warm_up: int, seconds: float) -> None:
        """ADD, the first answered ping, DEL: one at a time; `runs` of them, or as many as there is time for.

        The rounds to warm up come before, and do not count.
        """
        container = self.machine.container(0)
        end = time.monotonic() + seconds
        for number in range(-warm_up, runs):
            if number > 2 and time.monotonic() > end:
                say(f"the time is up after {number} runs")
                break
            for ipam in in_turn(IPAMS, number):
                for plugin in in_turn(self.present(), number):
                    cell = self.results.cell("attach", ipam, self.machine.ports, plugin.name)
                    self._attach_once(plugin, ipam, container, cell if number >= 0 else Cell(*_key(cell)))

    def _attach_once(self, plugin: Plugin, ipam: str, container: Container, cell: Cell) -> None:
        self.machine.forget_neighbours()
        container.questions(RESPONDER)
        self.machine.questions()
        container_id = secrets.token_hex(32)
        added = Process(*self._command(plugin, "ADD", ipam, container_id, container))
        done = added.wait()
        attached = container.has_interface
        answer = None
        if done.exit_code == 0 and attached:
            if ipam == "none":
                container.give_address(STATIC)
            answer = container.first_answer(RESPONDER)
        self.machine.settle()
        unheard = self._unheard(container)
        deleted = Process(*self._command(plugin, "DEL", ipam, container_id, container, done.result)).wait()
        self.machine.settle()
        problems = [f"{name}: {text}" for name, text in (("ADD", done.complaint), ("DEL", deleted.complaint)) if text]
        if done.exit_code == 0 and answer is None:
            silence = f"no ping was answered, and {unheard} requests for the MAC address were not heard"
            problems.append(silence if attached else "there is no interface after ADD")
        if container.has_interface:
            problems.append("the interface is there after DEL")
        if problems or answer is None:
            cell.failures.extend(problems)
            self.machine.clean_up(container)
            return
        cell.add(
            add=done.seconds,
            add_cpu=done.cpu,
            ping=answer.at - added.started,
            first_lost=not answer.to_first or unheard > 0,
            first_late=not answer.to_first or answer.waited >= LATE,
            delete=deleted.seconds,
            delete_cpu=deleted.cpu,
        )

    def _unheard(self, container: Container) -> int:
        """How often the container has asked for the other one's MAC address without being heard.

        ovs-vswitchd may still have some in its queues, hence the wait.
        """
        unheard = container.questions(RESPONDER) - self.machine.questions()
        end = time.monotonic() + 0.5
        while unheard > 0 and time.monotonic() < end:
            time.sleep(0.01)
            unheard -= self.machine.questions()
        return unheard

    def rate(self, rounds: int, containers: int, in_flight: int, seconds: float) -> None:
        """Many at once: attachments and detachments per second."""
        end = time.monotonic() + seconds
        for number in range(rounds):
            if number > 1 and time.monotonic() > end:
                say(f"the time is up after {number} rounds")
                break
            for ipam in in_turn(IPAMS, number):
                for plugin in in_turn(self.present(), number):
                    cell = self.results.cell("rate", ipam, self.machine.ports, plugin.name)
                    self._rate_once(plugin, ipam, containers, in_flight, cell)

    def _rate_once(self, plugin: Plugin, ipam: str, count: int, in_flight: int, cell: Cell) -> None:
        containers = [self.machine.container(number) for number in range(count)]
        ids = [secrets.token_hex(32) for _ in containers]
        pairs = list(zip(ids, containers, strict=True))
        self.machine.settle()
        started = time.perf_counter()
        added = run_at_once([self._command(plugin, "ADD", ipam, *pair) for pair in pairs], in_flight)
        add_seconds = time.perf_counter() - started
        self.machine.settle()
        missing = sum(not container.has_interface for container in containers)
        commands = [
            self._command(plugin, "DEL", ipam, *pair, done.result) for pair, done in zip(pairs, added, strict=True)
        ]
        started = time.perf_counter()
        deleted = run_at_once(commands, in_flight)
        delete_seconds = time.perf_counter() - started
        self.machine.settle()
        problems = [f"ADD: {done.complaint}" for done in added if done.complaint]
        problems += [f"DEL: {done.complaint}" for done in deleted if done.complaint]
        if missing and not problems:
            problems.append(f"{missing} of {count} containers have no interface after ADD")
        for container in containers:
            if container.has_interface:
                problems.append("an interface is there after DEL")
                self.machine.clean_up(container)
        if problems:
            cell.failures.extend(problems)
        else:
            cell.add(add=count / add_seconds, delete=count / delete_seconds)

    def memory(self, runs: int) -> None:
        """Peak memory of ADD."""
        memory = self._memory = self._memory or Memory(self.machine.folder)
        for number in range(runs):
            for ipam in IPAMS:
                for plugin in in_turn(self.present(), number):
                    cell = self.results.cell("memory", ipam, self.machine.ports, plugin.name)
                    self._add_for(plugin, ipam, cell, lambda command: _named(memory.run(*command), "add"))

    def calls(self, runs: int) -> None:
        """System calls and round trips of ADD."""
        folder, server = self.machine.folder, self.machine.socket
        for number in range(runs):
            for ipam in IPAMS:
                for plugin in in_turn(self.present(), number):
                    cell = self.results.cell("calls", ipam, self.machine.ports, plugin.name)
                    self._add_for(plugin, ipam, cell, lambda command: _values(trace(*command, server, folder)))

    def _add_for(
        self, plugin: Plugin, ipam: str, cell: Cell, run: Callable[[Command], tuple[Outcome, dict[str, float]]]
    ) -> None:
        """One ADD, run in a special way, whose samples go into the cell; and its DEL."""
        container = self.machine.container(0)
        container_id = secrets.token_hex(32)
        done, values = run(self._command(plugin, "ADD", ipam, container_id, container))
        self.machine.settle()
        deleted = Process(*self._command(plugin, "DEL", ipam, container_id, container, done.result)).wait()
        self.machine.settle()
        problems = [text for text in (done.complaint, deleted.complaint) if text]
        if problems:
            cell.failures.extend(problems)
            self.machine.clean_up(container)
        else:
            cell.add(**values)

    def _command(
        self, plugin: Plugin, command: str, ipam: str, container_id: str, container: Container, result: bytes = b""
    ) -> Command:
        sandbox, folder = container.namespace.path, self.machine.folder
        variables = environment(command, container_id, sandbox, IFNAME, folder, folder / "ipam")
        return [str(plugin.program)], variables, plugin.stdin(ipam, folder / "host-local", result)


def _key(cell: Cell) -> tuple[str, str, int, str]:
    return cell.measure, cell.ipam, cell.ports, cell.plugin


def _named(outcome: tuple[Outcome, float], name: str) -> tuple[Outcome, dict[str, float]]:
    return outcome[0], {name: outcome[1]}


def _values(outcome: tuple[Outcome, Calls]) -> tuple[Outcome, dict[str, float]]:
    return outcome[0], vars(outcome[1])
