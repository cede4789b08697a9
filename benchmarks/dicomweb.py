"""PathSearch as a DICOM node, side by side with Orthanc on the same data in the same run.

    python -m benchmarks.dicomweb [--sections frames metadata] [--seconds 8] [--slide FOLDER]

Both servers run on this machine, on loopback, each alone while it is measured; one client
program asks both in the same way, with connections that are kept. PathSearch runs as `make run`
starts it (uvicorn workers, embedded Postgres, sign-in by token, rights and audit on); Orthanc is
Debian's, with its DICOMweb plug-in, without sign-in and with its default number of threads.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import dicomweb_retrieve, dicomweb_store
from benchmarks.dicomweb_pair import Pair, pair

SECTIONS: dict[str, Callable[[Pair, argparse.Namespace], dict]] = {
    "frames": dicomweb_retrieve.frames,
    "metadata": dicomweb_retrieve.metadata,
    "store": dicomweb_store.store,
}


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--slide", type=Path, help="folder of a DICOM series; else one is made")
    parser.add_argument("--side", type=int, default=8192, help="pixels of the made slide's side")
    parser.add_argument("--levels", type=int, default=10, help="levels of the made slide")
    parser.add_argument("--seconds", type=float, default=8, help="length of one measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--workers", type=int, default=2, help="PathSearch's web processes")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    result: dict = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    with (
        tempfile.TemporaryDirectory(prefix="pathsearch-bench-") as folder,
        pair(Path(folder), options) as both,
    ):
        result["data"] = both.described
        result["servers"] = both.servers
        for name in options.sections:
            result[name] = SECTIONS[name](both, options)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
