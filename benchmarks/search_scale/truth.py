"""The exact answers: every visible slide compared with its uncoded float32 tokens.

The slides are made again from their numbers; neither the database nor any index is asked.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.search_scale.fill import SEES, Plan
from benchmarks.search_scale.vectors import CHUNK, TOKENS, World

USERS = ["100 %", *SEES]
KINDS = ("slide", "region")
BEST = 20


@dataclass
class Asked:
    """One question: the tokens and vector that ask, and the best answers until now."""

    sees: str
    kind: str
    slide: int
    tokens: np.ndarray
    shares: np.ndarray
    vector: np.ndarray
    best: np.ndarray
    answers: np.ndarray


def path_of(folder: Path) -> Path:
    """Return where the exact answers of this archive are kept."""
    return folder / "truth.npz"


def write(asked: argparse.Namespace) -> None:
    """Compare all slides with some questions of each user, and keep the best."""
    world = World()
    plan = Plan(asked.slides, world)
    started = time.perf_counter()
    questions = _questions(world, plan, asked.truth)
    for number in range(asked.slides // CHUNK):
        chunk = world.chunk(number)
        numbers = number * CHUNK + np.arange(CHUNK)
        for question in questions:
            _compare(question, chunk, numbers, plan)
    np.savez(
        path_of(asked.folder),
        sees=[q.sees for q in questions],
        kind=[q.kind for q in questions],
        slide=[q.slide for q in questions],
        answers=np.stack([q.answers for q in questions]),
        similarities=np.stack([q.best for q in questions]),
    )
    print(f"{len(questions)} exact answers in {time.perf_counter() - started:.0f} s")


def visible(plan: Plan, sees: str, numbers: np.ndarray) -> np.ndarray:
    """Return which of these slides the user sees: bool."""
    if sees not in SEES:
        return np.ones(len(numbers), bool)
    return plan.slide_department[numbers] == SEES[sees]


def _questions(world: World, plan: Plan, count: int) -> list[Asked]:
    rng = np.random.default_rng(11)
    found = []
    everything = np.arange(plan.slides)
    for sees in USERS:
        own = everything[visible(plan, sees, everything)]
        for kind in KINDS:
            for slide in rng.choice(own, min(count, len(own)), replace=False):
                chunk, row = world.chunk(int(slide) // CHUNK), int(slide) % CHUNK
                tokens, shares, vector = chunk.tokens[row], chunk.shares[row], chunk.vectors[row]
                if kind == "region":
                    tokens, shares, vector = tokens[-1:], np.ones(1, np.float32), tokens[-1]
                best, answers = np.full(BEST, -2.0), np.full(BEST, -1)
                found.append(Asked(sees, kind, int(slide), tokens, shares, vector, best, answers))
    return found


def _compare(question: Asked, chunk, numbers: np.ndarray, plan: Plan) -> None:
    from retrieval.engine.ranking import TOKEN_SHARE, mosaic_similarity
    from retrieval.services.comparing import MOSAIC_SHARE_OF_PART

    patient = plan.slide_patient
    rows = visible(plan, question.sees, numbers)
    rows &= patient[numbers] != patient[question.slide]
    if not rows.any():
        return
    whole = question.kind == "slide"
    by_mosaic, _ = mosaic_similarity(
        question.tokens,
        question.shares,
        chunk.tokens[rows],
        chunk.shares[rows],
        np.ones((int(rows.sum()), TOKENS), bool),
        backward=0.5 if whole else 0.0,
    )
    share = TOKEN_SHARE if whole else MOSAIC_SHARE_OF_PART
    similarity = share * by_mosaic + (1 - share) * (chunk.vectors[rows] @ question.vector)
    best = np.concatenate([question.best, similarity])
    answers = np.concatenate([question.answers, numbers[rows]])
    order = np.argsort(-best, kind="stable")[:BEST]
    question.best, question.answers = best[order], answers[order]
