"""`make mutants`: put small bugs into the code, one at a time, and see whether the tests notice.

A sample of the mutants of cosmic-ray is tried with the tests that are nearest to their module. Mutants that change
nothing anybody could see are listed with the reason in equivalent.toml and not counted. The score is the share of the
others that made a test fail.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from tests.mutants.lane import Lane
from tests.mutants.mutations import Mutant, mutant_at, places

ROOT = Path(__file__).resolve().parents[2]
# What a job goes through. Without kernels (they need a GPU), commands, and code that is data.
PACKAGES = ("models", "images", "jobs", "worker", "api", "client/lama_refinery_client")
LEFT_OUT = ("models/networks/lama/kernels.py", "models/networks/lama/bf16.py", "models/optimize", "api/openapi")
LANES = 2


def main() -> int:
    """Try the mutants; 1 when the score is below --least."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="files or folders (default: what a job goes through)")
    parser.add_argument("--changed", metavar="REVISION", help="only lines that differ from this revision of git")
    parser.add_argument("--sample", type=int, default=300, help="mutants to try: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the sample: %(default)s")
    parser.add_argument("--minutes", type=float, default=28, help="when to stop: %(default)s")
    parser.add_argument("--least", type=float, default=0, help="score in %% below which the exit code is 1")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    options = parser.parse_args()

    found = [place for path in _modules(options.modules) for place in places(ROOT, path)]
    random.Random(options.seed).shuffle(found)
    wanted = (
        mutant
        for place in found
        if (mutant := mutant_at(ROOT, *place))
        and (not options.changed or mutant.line in _changed_lines(options.changed, mutant.path))
    )
    results = _try(list(itertools.islice(wanted, options.sample)), options.minutes * 60)
    summary = _summary(results, len(found))
    print(json.dumps(summary, indent=1))
    if options.out:
        options.out.write_text(json.dumps(summary, indent=1) + "\n")
    return int(summary["score_percent"] < options.least)


def _modules(chosen: list[str]) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *(chosen or PACKAGES)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [path for path in listed if path.endswith(".py") and (chosen or not path.startswith(LEFT_OUT))]


_lines: dict[tuple[str, str], set[int]] = {}


def _changed_lines(revision: str, path: str) -> set[int]:
    """The lines of a file, counted from 1, that are new or changed since a revision."""
    if (revision, path) not in _lines:
        diff = subprocess.run(
            ["git", "diff", "--unified=0", revision, "--", path], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        lines = set[int]()
        for header in (line.split(" ")[2] for line in diff.splitlines() if line.startswith("@@")):
            start, _, count = header.removeprefix("+").partition(",")
            lines |= set(range(int(start), int(start) + int(count or 1)))
        _lines[revision, path] = lines
    return _lines[revision, path]


def _try(chosen: list[Mutant], seconds: float) -> list[dict[str, Any]]:
    """What becomes of each mutant, as far as there is time for it."""
    tasks: multiprocessing.Queue[Mutant | None] = multiprocessing.Queue()
    done: multiprocessing.Queue[dict[str, Any] | None] = multiprocessing.Queue()
    for mutant in [*chosen, *[None] * LANES]:
        tasks.put(mutant)
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        lanes = [
            multiprocessing.Process(target=_lane, args=(Path(directory) / str(number), tasks, done, deadline))
            for number in range(LANES)
        ]
        for lane in lanes:
            lane.start()
        results, left = list[dict[str, Any]](), LANES
        while left:
            if (result := done.get()) is None:
                left -= 1
                continue
            results.append(result)
            print(f"{len(results):4} {result['outcome']:9} {result['mutant']}  {result['by']}", flush=True)
        for lane in lanes:
            lane.join()
    return results


def _lane(copy: Path, tasks: Any, done: Any, deadline: float) -> None:
    try:
        lane = Lane(ROOT, copy)
        while (mutant := tasks.get()) is not None and time.monotonic() < deadline:
            outcome, by, seconds = lane.try_mutant(mutant)
            package = mutant.path.split("/")[0]
            equivalent = _equivalent().get((mutant.path, mutant.before, mutant.after))
            if outcome == "survived" and equivalent:
                outcome, by = "equivalent", equivalent
            done.put(
                {"mutant": str(mutant), "package": package, "outcome": outcome, "by": by, "seconds": round(seconds, 1)}
            )
    finally:
        done.put(None)


def _equivalent() -> dict[tuple[str, str, str], str]:
    """The mutants that were judged to change nothing, and why."""
    listed = tomllib.loads(Path(__file__).with_name("equivalent.toml").read_text()).get("mutant", [])
    return {(item["path"], item["before"], item["after"]): item["reason"] for item in listed}


def _summary(results: list[dict[str, Any]], population: int) -> dict[str, Any]:
    def score(outcomes: Counter[str]) -> float:
        counted = outcomes["noticed"] + outcomes["survived"] + outcomes["untested"]
        return round(100 * outcomes["noticed"] / counted, 1) if counted else 100.0

    packages = {package: Counter[str]() for package in sorted({result["package"] for result in results})}
    for result in results:
        packages[result["package"]][result["outcome"]] += 1
    every = sum(packages.values(), Counter[str]())
    return {
        "places": population,
        "tried": len(results),
        "score_percent": score(every),
        "outcomes": dict(every),
        "packages": {package: {"score_percent": score(c), **c} for package, c in packages.items()},
        "survivors": sorted(r["mutant"] for r in results if r["outcome"] in ("survived", "untested")),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    sys.exit(main())
