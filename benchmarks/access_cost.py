"""What the second lock and the access log cost a request.

    python -m benchmarks.access_cost --cases 50000 --slides 5000

In a scratch database (made beside the site's own, dropped at the end): pages of the work list
through the whole of Django, and searches in an archive of vectors, each asked with row security
and without, by turns, in the same process and on the same rows. Of the list's requests also the
time that writing their access events took.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np

from benchmarks.query import Archive
from benchmarks.scratch import scratch_database
from benchmarks.work_list import PAGES, fill

LISTED = (
    "first page",
    "search: part of a name",
    "search: MRN",
    "search: name with a typing error",
    "filter: organ",
    "page 40",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--slides", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    with scratch_database(with_pages=True):
        print(
            f"machine   {platform.machine()}; {os.cpu_count()} cores; {asked.cases} cases in the"
            f" list, {asked.slides} slides searched; {asked.repeats} times each\n"
        )
        print(f"{'':40}{'without':>16}{'row security':>16}{'log alone':>11}")
        print(f"{'':40}{'p50':>8}{'p95':>8}{'p50':>8}{'p95':>8}{'p50':>11}   ms")
        lists(asked.cases, asked.repeats)
    # The list's rows come with an index of their own.
    with scratch_database():
        searches(asked.slides, asked.repeats)


def by_turns(name: str, ask: Callable[[], object], repeats: int, logged: list[float]) -> None:
    """Ask with and without the lock by turns, and print."""
    from django.conf import settings

    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(-1, repeats):
        for is_on in (False, True):
            settings.ROW_SECURITY = is_on
            began = time.perf_counter()
            ask()
            if turn >= 0:
                seconds[is_on].append(time.perf_counter() - began)
    settings.ROW_SECURITY = False
    figures = [np.percentile(np.array(seconds[is_on]) * 1000, [50, 95]) for is_on in (False, True)]
    line = "".join(f"{value:8.1f}" for pair in figures for value in pair)
    print(f"{name:40}{line}" + (f"{np.median(logged) * 1000:11.2f}" if logged else ""))


def lists(cases: int, repeats: int) -> None:
    """Ask for pages of the work list."""
    from django.test import Client
    from django.urls import reverse

    from cases.querysets import AppendOnlyQuerySet

    client = Client()
    client.force_login(fill(cases))
    address = reverse("work_list")
    for name in LISTED:
        logged: list[float] = []
        query = PAGES[name]

        def ask(query=query) -> None:
            client.get(address, query)

        with _timed(AppendOnlyQuerySet, logged):
            by_turns(f"list, {name}", ask, repeats, logged)


class _timed:
    """Notes how long each write of events took, its link in the chain and its commit included."""

    def __init__(self, kind: type, seconds: list[float]) -> None:
        self.kind, self.seconds = kind, seconds

    def __enter__(self) -> None:
        self.own = dict(vars(self.kind))
        for name in ("create", "insert_alike"):
            setattr(self.kind, name, self._noting(getattr(self.kind, name)))

    def __exit__(self, *_error: object) -> None:
        for name in ("create", "insert_alike"):
            if name in self.own:
                setattr(self.kind, name, self.own[name])
            else:
                delattr(self.kind, name)

    def _noting(self, write: Callable) -> Callable:
        def noted(*args, **kwargs):
            began = time.perf_counter()
            try:
                return write(*args, **kwargs)
            finally:
                self.seconds.append(time.perf_counter() - began)

        return noted


def searches(slides: int, repeats: int) -> None:
    """Search by slide, region, words."""
    from cases.row_scope import acting_for_user

    rng = np.random.default_rng(7)
    archive = Archive(slides, rng)
    for who, user in archive.users.items():
        for kind in ("slide", "region", "words", "slide and words"):

            def ask(user=user, kind=kind) -> None:
                with acting_for_user(user):
                    archive.search(user, kind, rng)

            by_turns(f"search, {who}, {kind}", ask, repeats, [])


if __name__ == "__main__":
    main()
