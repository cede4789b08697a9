"""What an access event costs, and how fast the chain over them is verified.

    python -m benchmarks.audit --events 20000

In a scratch database (made beside the site's own, dropped at the end): events written one a
transaction, as a request does, with the chain and with the chain's trigger switched off, by one
writer and by eight at once; then the whole chain verified.
"""

import argparse
import os
import platform
import threading
import time

import numpy as np

from benchmarks.scratch import scratch_database

WRITERS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    asked = parser.parse_args()
    with scratch_database():
        measure(asked.events)


def measure(events: int) -> None:
    """Write, verify, print."""
    from cases.services.audit_chain import audit_verify

    print(f"machine   {platform.machine()}; {os.cpu_count()} cores; {events} events a row\n")
    print(f"{'events written':34}{'p50 ms':>9}{'p95 ms':>9}{'events/s':>10}")
    for writers in (1, WRITERS):
        for name, chained in (("without the chain", False), ("chained", True)):
            _trigger("ENABLE" if chained else "DISABLE")
            seconds, whole = _written(events, writers)
            p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
            label = f"{writers} at once, {name}"
            print(f"{label:34}{p50:9.2f}{p95:9.2f}{len(seconds) / whole:10.0f}")
    started = time.perf_counter()
    result = audit_verify()
    whole = time.perf_counter() - started
    print(f"\nverified {result.links} links in {whole:.1f} s: {result.links / whole:.0f} a second")
    # Those that were written with the trigger off have no link, and are found.
    print(f"{'unlinked events were found' if result.findings else 'unlinked events were MISSED'}")


def _trigger(act: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE cases_accessevent {act} TRIGGER audit_seal")


def _written(events: int, writers: int) -> tuple[list[float], float]:
    """Return the seconds of each event, and of all together."""
    seconds: list[float] = []
    threads = [
        threading.Thread(target=_write, args=(events // writers, seconds)) for _ in range(writers)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, time.perf_counter() - started


def _write(events: int, seconds: list[float]) -> None:
    from django.db import connection

    from cases.services.audit import Action, access_event_record

    try:
        for n in range(events):
            started = time.perf_counter()
            access_event_record(
                user=None, action=Action.VIEW, address="10.0.0.7", detail={"number": n}
            )
            seconds.append(time.perf_counter() - started)
    finally:
        connection.close()


if __name__ == "__main__":
    main()
