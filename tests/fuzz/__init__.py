"""Hostile input: harnesses that a fuzzer drives (build/fuzz), and that the tests drive too, without one.

- harnesses.py: one harness for each way in: what it feeds, and what must hold whatever comes in;
- source.py: bytes turned into choices, and values damaged by choices;
- world.py: a machine in memory on which every command works: kernel, ovsdb-server, IPAM plugin;
- __main__.py: what build/fuzz runs: the fuzzer (atheris), and the coverage of what it found;
- test_harnesses.py: the seeds, and bytes of Hypothesis, through the same harnesses.
"""
