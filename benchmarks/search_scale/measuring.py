"""Ask and print: latency by kind and user, load by clients, recall, sizes, inserts, rivals."""

import argparse
from collections import defaultdict

import numpy as np

from benchmarks.search_scale import asking
from benchmarks.search_scale.vectors import World


def percentiles(seconds: list[float]) -> str:
    """Return p50, p95 and p99 in milliseconds."""
    return "".join(
        f"{value:8.1f}" for value in np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    )


def run(asked: argparse.Namespace) -> None:
    """Print all tables."""
    world = World()
    asking.without_encoders(world)
    print(f"\n{asked.slides:,} slides; sentence encoding is left out")
    one_client(world, asked)


def one_client(world: World, asked: argparse.Namespace) -> None:
    """Print the latency of each kind of question for each user, and where the time goes."""
    print("\none client                        p50 ms  p95 ms  p99 ms   way      stages, ms (mean)")
    for kind in asking.KINDS:
        for sees in asking.USERS:
            client = asking.Client(sees, world, seed=1)
            questions = [client.question(kind) for _ in range(asked.queries + 5)]
            taken, stages, ways = [], defaultdict(list), defaultdict(int)
            for number, question in enumerate(questions):
                asking._Meaning.diagnosis = 0
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
            print(f"{kind:17} sees {sees:6} {percentiles(taken)}   {way:8} {told}")
