"""What build/fuzz runs: each harness under atheris (libFuzzer for Python), and then what the found inputs cover."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import atheris
import coverage

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "cni_ovs/plugin"
# What one input may take, on a slow machine too. Most take a millisecond, in 100 MB.
_SECONDS, _MEGABYTES = 10, 1024


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="build/fuzz", description="feeds the plugin with hostile input")
    parser.add_argument("harness", nargs="*", metavar="HARNESS", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (default 60)")
    parser.add_argument("--corpus", type=Path, help="a folder for the inputs that are found, to go on with next time")
    parser.add_argument("--list", action="store_true", help="only say which harnesses there are")
    parser.add_argument("--part", choices=["fuzz", "cover"], help=argparse.SUPPRESS)  # a process of its own
    chosen = parser.parse_args()
    if chosen.part == "fuzz":
        _fuzz(chosen.harness[0], chosen.corpus, chosen.seconds)
    if chosen.part == "cover":
        _cover(chosen.harness, chosen.corpus)
        return 0
    from tests.fuzz.harnesses import HARNESSES  # noqa: PLC0415 - after _fuzz has told atheris to look into it

    if chosen.list:
        for harness in HARNESSES.values():
            print(f"{harness.name:12}{harness.about}")  # noqa: T201
        return 0
    unknown = set(chosen.harness) - HARNESSES.keys()
    if unknown:
        parser.error(f"there is no harness {', '.join(sorted(unknown))}; there are {', '.join(HARNESSES)}")
    with tempfile.TemporaryDirectory(prefix="cni-ovs-fuzz-") as folder:
        corpus = chosen.corpus or Path(folder)
        names = chosen.harness or list(HARNESSES)
        os.environ["TMPDIR"] = folder  # libFuzzer ends a process without letting it remove what it has made there
        results = [_run(name, corpus.absolute() / name, chosen.seconds) for name in names]
        if len(names) > 1:
            print(f"together: {_part('cover', names, corpus.absolute()).stdout.strip()}")  # noqa: T201
    return int(not all(results))


def _part(part: str, names: list[str], corpus: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a part of the work in a process of its own: libFuzzer ends it, and coverage must be there from the start."""
    command = [sys.executable, "-m", "tests.fuzz", *names, "--corpus", str(corpus), "--part", part, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(name: str, corpus: Path, seconds: int) -> bool:
    """Fuzz one harness, and say what came of it."""
    (corpus / "crashes").mkdir(parents=True, exist_ok=True)
    (corpus / "inputs").mkdir(exist_ok=True)
    for earlier in (corpus / "crashes").iterdir():  # it is run again, and is a crash no more, we hope
        earlier.rename(corpus / "inputs" / earlier.name)
    started = time.monotonic()
    done = _part("fuzz", [name], corpus, "--seconds", str(seconds))
    took = time.monotonic() - started
    runs = re.findall(r"^stat::number_of_executed_units: (\d+)", done.stderr, re.MULTILINE)
    edges = re.findall(r"\bcov: (\d+) ft: ", done.stderr)
    crashes = sorted((corpus / "crashes").iterdir())
    if done.returncode or not runs:
        print(done.stdout[-3000:], done.stderr[-6000:], sep="\n")  # noqa: T201
    covered = _part("cover", [name], corpus.parent)
    print(  # noqa: T201
        f"{name}: {runs[-1] if runs else '?'} runs in {took:.0f} s, {edges[-1] if edges else '?'} edges,"
        f" {len(crashes)} crashes; {covered.stdout.strip() or covered.stderr}",
        flush=True,
    )
    for crash in crashes:
        print(f"    {crash.name}: {crash.read_bytes()!r}")  # noqa: T201
    return done.returncode == 0 and not crashes


def _fuzz(name: str, corpus: Path, seconds: int) -> None:
    """Run libFuzzer, which ends the process."""
    with atheris.instrument_imports(include=["cni_ovs.plugin"]):
        from tests.fuzz.world import load_everything  # noqa: PLC0415 - now it is looked into

        load_everything()
    from tests.fuzz.harnesses import HARNESSES  # noqa: PLC0415
    from tests.fuzz.world import installed  # noqa: PLC0415

    harness = HARNESSES[name]
    with installed():
        for number, seed in enumerate(harness.seeds()):
            (corpus / "inputs" / f"seed{number}").write_bytes(seed)
        options = [
            *(f"-max_total_time={seconds}", f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEGABYTES}"),
            *(f"-artifact_prefix={corpus}/crashes/", "-max_len=4096", "-len_control=0", "-print_final_stats=1"),
        ]
        atheris.Setup([sys.argv[0], *options, str(corpus / "inputs")], harness.run)
        atheris.Fuzz()


def _cover(names: list[str], corpus: Path) -> None:
    """Run all inputs once more; print which part of the lines they go through: of one harness's files, or of all."""
    measure = coverage.Coverage(data_file=None, include=[f"{PLUGIN}/*"])
    measure.start()
    from tests.fuzz.harnesses import HARNESSES  # noqa: PLC0415 - with what it loads
    from tests.fuzz.world import installed  # noqa: PLC0415

    with installed():
        for name in names:
            for file in sorted((corpus / name / "inputs").iterdir()):
                try:
                    HARNESSES[name].run(file.read_bytes())
                except Exception as error:  # noqa: BLE001 - it is among the crashes
                    print(f"{file.name}: {error}", file=sys.stderr)  # noqa: T201
    measure.stop()
    with tempfile.NamedTemporaryFile() as report:
        measure.json_report(outfile=report.name)
        files: dict[str, Any] = json.loads(Path(report.name).read_text())["files"]
    wanted = HARNESSES[names[0]].files if len(names) == 1 else ()
    found = [file["summary"] for path, file in files.items() if not wanted or Path(path).name in wanted]
    covered, lines = (sum(summary[key] for summary in found) for key in ("covered_lines", "num_statements"))
    what = f"of {', '.join(wanted)}" if wanted else "of the plugin"
    print(f"{100 * covered / lines:.0f} % of the {lines} lines {what}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
