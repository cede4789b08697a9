"""Search at scale, by the site's own service, in a database of its own.

    python -m benchmarks.search_scale --slides 1000000 --folder /var/tmp/scale
    python -m benchmarks.search_scale --slides 1000000 --folder /var/tmp/scale --steps measure

Steps (all unless named; each can be run alone and again): `fill` writes N slides with reports in
50 departments of very unequal size, `build` the indexes, `truth` compares every slide exactly for
some questions, `measure` asks. The folder keeps the
database between steps. Needs some 12 GB of disk and 12 GB of memory at a million slides.
`--statistics` prints how the made vectors compare with real ones, and ends.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.search_scale import server

STEPS = ("fill", "build", "truth", "measure")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_scale")
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keeps the database")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--data", type=Path, help="folder with gtex/notes.csv.gz, if there is one")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load with clients")
    parser.add_argument("--queries", type=int, default=40, help="of each kind and user")
    parser.add_argument(
        "--truth", type=int, default=6, help="questions with an exact answer, of each kind and user"
    )
    parser.add_argument("--statistics", action="store_true")
    asked = parser.parse_args()
    if asked.statistics:
        from benchmarks.search_scale.vectors import World, statistics

        for name, value in statistics(World()).items():
            print(f"{name:36} {value:6.2f}")
        return
    if asked.folder is None:
        parser.error("--folder is needed: the database is kept there")
    steps = asked.steps.split(",")
    if set(steps) - set(STEPS):
        parser.error(f"steps are {', '.join(STEPS)}")
    sys.stdout.reconfigure(line_buffering=True)
    server.start(asked.folder, asked.slides)
    try:
        from benchmarks.search_scale import steps as work

        for step in steps:
            getattr(work, step)(asked)
    finally:
        server.stop_server()


if __name__ == "__main__":
    main()
