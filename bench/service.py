"""`python -m bench.service`: is the device never idle, what does the service add, what do uploads and queues cost?

Real processes and sockets: Valkey, api, workers. Each part is a comparison within one run; `--only` picks parts, and in
the end the targets are printed with what this machine makes of them.

throughput: jobs a second with a full queue, next to the engine alone in as many processes, and to what the cores allow.
    With a GPU (`--device cuda`) photos of 12 megapixels and Big-LaMa's network. Without one, a stand-in for the device
    (bench.support.stand_in), which keeps the interpreter's lock for half of its time, as a GPU's process does.
overhead: from the last byte of an upload until the result's last byte has come, minus the engine's own time.
parent: the memory of the worker's own process over many jobs.
embedded: the embedded service on a processor: its start, and its memory when idle.
upload: bodies of 8 MB, next to a handler that only writes them to disk; and the api's memory at 8 and at 64 MB.
queue: looking at a job while 10 others wait, and while 10,000 do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.support import api_parts, scenes, worker_parts
from bench.support.rig import Row

PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "throughput": worker_parts.throughput,
    "overhead": worker_parts.overhead,
    "parent": worker_parts.parent,
    "embedded": worker_parts.embedded,
    "upload": api_parts.upload,
    "queue": api_parts.queue,
}
# part, the rows that it is about, column, whether at least or at most, bound, whether only a GPU can show it
Target = tuple[str, dict[str, object], str, str, float, bool]
TARGETS: list[Target] = [
    ("throughput", {"result": "jpeg"}, "service jobs/s", ">=", 20, True),
    ("throughput", {"result": "jpeg"}, "service / alone %", ">=", 80, True),
    ("throughput", {"result": "png"}, "of the cores' jobs/s %", ">=", 85, True),
    ("throughput", {"result": "jpeg"}, "device seconds, alone / service %", ">=", 90, False),
    ("overhead", {"of": "all but the engine"}, "p50 ms", "<=", 25, False),
    ("overhead", {"of": "all but the engine"}, "p99 ms", "<=", 60, False),
    ("parent", {}, "MiB", "<=", 143, False),  # 150 MB
    ("embedded", {"network": "builtin"}, "start to ready s", "<=", 2.4, False),
    ("embedded", {"network": "Big-LaMa's, random"}, "idle MiB, all processes", "<=", 700, False),
]


def reached(found: dict[str, list[Row]], on_gpu: bool) -> list[Row]:
    """The targets of the parts that ran, with the worst figure of their rows."""
    rows = []
    for part, where, column, how, bound, needs_gpu in TARGETS:
        seen = [row[column] for row in found.get(part, []) if where.items() <= row.items() and column in row]
        if not seen:
            continue
        worst = min(seen) if how == ">=" else max(seen)
        met = worst >= bound if how == ">=" else worst <= bound
        measured = "not measured: needs a GPU" if needs_gpu and not on_gpu else worst
        what = ", ".join([part, *map(str, where.values()), column])
        answer = "" if isinstance(measured, str) else "yes" if met else "no"
        rows.append({"target": f"{what} {how} {bound:g}", "here": measured, "reached": answer})
    return rows


def main() -> int:
    """Run the parts, a table each, and then the targets."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run (default: all)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda: %(default)s")
    parser.add_argument(
        "--network",
        help="the worker's: stand-in (default on a processor), random-big-lama (default on a GPU), builtin, big-lama, "
        "or a file",
    )
    parser.add_argument("--concurrency", type=int, help="jobs a worker holds at once (default: the setting's)")
    parser.add_argument("--processes", type=int, help="device processes (default: the setting's)")
    parser.add_argument("--seconds", type=float, default=10.0, help="that the engine alone runs: %(default)s")
    parser.add_argument("--jobs", type=int, help="in a full queue (default: 16, on a GPU 200)")
    parser.add_argument("--many", type=int, default=1000, help="jobs for the memory of the worker: %(default)s")
    parser.add_argument("--samples", type=int, default=200, help="requests per figure: %(default)s")
    parser.add_argument("--uploads", type=int, default=48, help="per figure: %(default)s")
    parser.add_argument("--queued", type=int, default=10_000, help="jobs in the long queue: %(default)s")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of each comparison: %(default)s")
    parser.add_argument("--out", type=Path, help="write JSON into this directory, a file for each part")
    options = parser.parse_args()
    on_gpu = options.device != "cpu"
    options.network = options.network or ("random-big-lama" if on_gpu else "stand-in")
    options.jobs = options.jobs or (200 if on_gpu else 16)
    found = {}
    for name in options.only:
        with tempfile.TemporaryDirectory() as directory:
            found[name] = PARTS[name](options, Path(directory))
        _show(f"Service: {name}", found[name], options.out and options.out / f"{name}.json")
    if targets := reached(found, on_gpu):
        _show("Service: targets", targets, options.out and options.out / "targets.json")
    return 0


def _show(title: str, rows: list[Row], out: Path | None) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    scenes.show(title, [{column: row.get(column, "") for column in columns} for row in rows], out)


if __name__ == "__main__":
    sys.exit(main())
