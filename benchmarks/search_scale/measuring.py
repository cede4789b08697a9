"""Ask and print: latency by kind and user, recall, sizes, load, inserts, rivals."""

import argparse
import os
import platform
from collections import defaultdict
from pathlib import Path

import numpy as np
from django.conf import settings

from benchmarks.machine import cpu_name
from benchmarks.search_scale import asking, loading, rivals, truth
from benchmarks.search_scale.vectors import World
from pathsearch_site import garbage


def run(asked: argparse.Namespace) -> None:
    """Print all tables."""
    world = World()
    asking.without_encoders(world)
    garbage.settle()  # as each web process does when it has started
    print(f"\n{asked.slides:,} slides on {cpu_name()}, {os.cpu_count()} cores,", end=" ")
    lock = "on" if settings.ROW_SECURITY else "off"
    print(f"Python {platform.python_version()}; row security {lock}; sentences are not encoded")
    costs()
    sizes(asked.slides)
    one_client(world, asked)
    if truth.path_of(asked.folder).exists():
        recall(asked.folder, world)
    else:
        print("\nno exact answers: run the step truth")
    loading.run(world, asked.seconds)
    loading.while_inserting(world, asked.seconds)
    rivals.run(world, asked.slides)


def costs() -> None:
    """Measure what the planner goes by, as `manage.py measure_search` does, and print it."""
    from cases.row_scope import acting_for_system
    from retrieval.models import EmbeddingModel
    from retrieval.services.search_costs import TooFewSlides, search_costs_measure

    try:
        with acting_for_system("as the worker that measures it"):
            row = search_costs_measure(model=EmbeddingModel.objects.get(modality="image"))
    except TooFewSlides as error:
        print(error.message)
        return
    print(
        f"planner: a row exactly {row.exact_us:.2f} us, a candidate of the graph"
        f" {row.visit_us:.2f} us after {row.walk_us:.0f} us; ef_search {row.ef_search}"
    )


def sizes(slides: int) -> None:
    """Print the bytes a slide of each table with its indexes."""
    from django.db import connection

    tissue = ("retrieval_slideembedding",)
    words = ("retrieval_reportembedding", "retrieval_reportwords")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_relation_size(oid), pg_indexes_size(oid),"
            " pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'public'::regnamespace AND pg_total_relation_size(oid) > 100 * %s"
            " ORDER BY 4 DESC",
            [slides],
        )
        rows = cursor.fetchall()
    print("\nbytes a slide                 rows  indexes    in all")
    for name, heap, indexes, total in rows:
        print(f"{name:26} {heap / slides:8.0f} {indexes / slides:8.0f} {total / slides:9.0f}")
    totals = {name: total / slides for name, _heap, _indexes, total in rows}
    print(
        f"tissue {sum(totals.get(n, 0) for n in tissue):.0f},"
        f" with words {sum(totals.get(n, 0) for n in (*tissue, *words)):.0f},"
        f" with all clinical tables {sum(totals.values()):.0f}"
    )


def one_client(world: World, asked: argparse.Namespace) -> None:
    """Print the latency of each kind of question for each user, and where the time goes."""
    print("\none client                        p50 ms  p95 ms  p99 ms   way      stages, ms (mean)")
    for kind in asking.KINDS:
        for sees in asking.USERS:
            client = asking.Client(sees, world, seed=1)
            questions = [client.question(kind) for _ in range(asked.queries + 5)]
            taken, stages, ways = [], defaultdict(list), defaultdict(int)
            for number, question in enumerate(questions):
                seconds, timings, _hits = client.ask(question)
                if number < 5:
                    continue  # warms up
                taken.append(seconds)
                ways[timings.get("way", "-")] += 1
                for name, value in timings.items():
                    if isinstance(value, float):
                        stages[name].append(value * 1000)
            told = " ".join(f"{name} {np.mean(v):.0f}" for name, v in stages.items())
            way = max(ways, key=ways.get)
            print(f"{kind:17} sees {sees:6} {asking.percentiles(taken)}   {way:8} {told}")


def recall(folder: Path, world: World) -> None:
    """Print the share of the exact ten that were answered, in the user's own scope."""
    exact = np.load(truth.path_of(folder))
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sees, kind, slide, answers in zip(
        exact["sees"], exact["kind"], exact["slide"], exact["answers"], strict=True
    ):
        client = asking.Client(str(sees), world, seed=1)
        _seconds, _timings, hits = client.ask(client.question(str(kind), int(slide), is_exact=True))
        right = [number for number in answers[:10].tolist() if number >= 0]
        if right:
            share = len(set(right) & set(hits[: len(right)])) / len(right)
            found[str(kind), str(sees)].append(share)
    print("\nrecall@10 against every visible slide's float32 tokens   mean   least   questions")
    for (kind, sees), shares in found.items():
        print(f"{kind:17} sees {sees:6} {np.mean(shares):36.3f} {min(shares):7.2f} {len(shares):8}")
    every = [share for shares in found.values() for share in shares]
    print(f"all {np.mean(every):57.3f} {min(every):7.2f} {len(every):8}")
