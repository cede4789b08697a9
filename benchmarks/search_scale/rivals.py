"""The same question without a database: the reference's loop over pairs, and NumPy over all."""

import time

import numpy as np

from benchmarks.search_scale import asking
from benchmarks.search_scale.vectors import CHUNK, TOKENS, World

PAIRS = 500


def run(world: World, slides: int) -> None:
    """Print what each way takes for one slide against all, and the ratio to this site's search.

    The rivals are timed on a part of the archive and scaled by its share: both are loops.
    """
    client = asking.Client("100 %", world, seed=3)
    questions = [client.question("slide") for _ in range(25)]
    own = float(np.median([client.ask(question)[0] for question in questions][5:]))
    loop = pair_loop(world) * slides
    brute = brute_force(world) * slides
    print("\none slide against all                           ms    ratio to search")
    print(f"search, p50 of a user who sees all   {own * 1000:13.1f}")
    print(f"loop over pairs ({PAIRS} timed)          {loop * 1000:13.0f} {loop / own:12.0f} x")
    print(f"NumPy over float32 ({CHUNK} timed)      {brute * 1000:13.0f} {brute / own:12.0f} x")


def pair_loop(world: World) -> float:
    """Return seconds a pair of the reference's distance, as a loop in Python.

    The median over the query's 17 barcodes of the least Hamming distance to the candidate's, and
    200 times the distance of the slide vectors.
    """
    slides = world.chunk(0)
    rows = np.concatenate([slides.tokens, slides.vectors[:, None]], axis=1)[: PAIRS + 1]
    codes = np.packbits(np.diff(rows, axis=2) > 0, axis=2)
    vectors = slides.vectors
    started = time.perf_counter()
    distances = []
    for candidate in range(1, PAIRS + 1):
        least = [
            int(np.bitwise_count(code ^ codes[candidate]).sum(axis=1).min()) for code in codes[0]
        ]
        apart = float(np.linalg.norm(vectors[0] - vectors[candidate]))
        distances.append(float(np.median(least)) + 200 * apart)
    return (time.perf_counter() - started) / len(distances)


def brute_force(world: World) -> float:
    """Return seconds a slide of the site's own similarity over float32 tokens in memory."""
    from retrieval.engine.ranking import mosaic_similarity

    slides = world.chunk(0)
    present = np.ones((CHUNK, TOKENS), bool)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        mosaic_similarity(slides.tokens[0], slides.shares[0], slides.tokens, slides.shares, present)
        taken.append(time.perf_counter() - started)
    return min(taken) / CHUNK
