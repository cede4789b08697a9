"""The steps of the benchmark: fill and build; `measure` is in a module of its own."""

import argparse
import os
import time

import numpy as np

from benchmarks.search_scale.fill import DEPARTMENTS, SEES, TEXT_DIMENSION, Filler, Plan
from benchmarks.search_scale.vectors import DIMENSION, TOKENS, World


def fill(asked: argparse.Namespace) -> None:
    """Migrate, make departments, users and models, fit the codec, write all slides."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    world = World()
    _site(world)
    print(f"filling {asked.slides:,} slides")
    started = time.perf_counter()
    _drop_indexes()
    Filler(os.environ["DATABASE_URL"], Plan(asked.slides, world), asked.data).run()
    (asked.folder / "filled").touch()
    print(f"filled in {time.perf_counter() - started:.0f} s")


def _site(world: World) -> None:
    from django.contrib.auth import get_user_model

    from cases.models import Department, Membership
    from cases.permissions import Role
    from retrieval.engine.token_codec import fit_token_codec
    from retrieval.models import EmbeddingModel, MosaicCodec

    departments = Department.objects.bulk_create(
        Department(
            pk=i + 1, code=f"d{i}", name=f"Department {i}", mrn_issuer="m", accession_issuer="a"
        )
        for i in range(DEPARTMENTS)
    )
    seen = {"100 %": range(DEPARTMENTS), **{name: [at] for name, at in SEES.items()}}
    for name, at in seen.items():
        user = get_user_model().objects.create(username=f"sees {name}")
        Membership.objects.bulk_create(
            Membership(user=user, department=departments[i], role=Role.PATHOLOGIST) for i in at
        )
    model = EmbeddingModel.objects.create(
        name="scale-768",
        modality="image",
        encoder="efficientnet-lite0",
        aggregator="prototypes",
        weights_sha256="0" * 64,
        dimension=DIMENSION,
        token_count=TOKENS,
        patch_px=224,
        mpp=1.0,
        is_active=True,
    )
    EmbeddingModel.objects.create(
        name="scale-text",
        modality="text",
        encoder="all-minilm-l6-v2",
        aggregator="own-pooling",
        weights_sha256="0" * 64,
        dimension=TEXT_DIMENSION,
        is_active=True,
    )
    sample = np.concatenate([world.chunk(n).tokens for n in (0, 1)]).reshape(-1, DIMENSION)
    codec = fit_token_codec(sample)
    MosaicCodec.objects.create(
        model=model, payload=codec.to_bytes(), sha256=codec.sha256, fitted_to_slides=4000
    )


def _drop_indexes() -> None:
    """Drop what is faster to build over a full table; `build` makes it again."""
    from django.db import connection

    with connection.cursor() as cursor:
        for name in INDEXES:
            cursor.execute(f"DROP INDEX IF EXISTS {name}")


INDEXES = {
    "slide_embedding_cells": "CREATE INDEX slide_embedding_cells ON retrieval_slideembedding"
    " USING gin (cells) WITH (fastupdate = off)",
    "report_full_text": "CREATE INDEX report_full_text ON cases_report USING gin (search_vector)",
    "report_words_affirmed": "CREATE INDEX report_words_affirmed ON retrieval_reportwords"
    " USING gin (affirmed)",
    "report_words_denied": "CREATE INDEX report_words_denied ON retrieval_reportwords"
    " USING gin (denied)",
}


def build(asked: argparse.Namespace) -> None:
    """Build the indexes, each timed, and let Postgres count."""
    from django.db import connection

    from retrieval.models import EmbeddingModel, ReportEmbedding, SlideEmbedding
    from retrieval.querysets import vector_index_ensure

    print("building")
    with connection.cursor() as cursor:
        for name, statement in INDEXES.items():
            started = time.perf_counter()
            cursor.execute(statement.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS"))
            print(f"  {name:28} {time.perf_counter() - started:7.0f} s")
    for table, modality in ((SlideEmbedding, "image"), (ReportEmbedding, "text")):
        model = EmbeddingModel.objects.get(modality=modality, is_active=True)
        started = time.perf_counter()
        vector_index_ensure(table, model)
        print(f"  HNSW of {table._meta.db_table:20} {time.perf_counter() - started:7.0f} s")
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    print(f"  {'vacuum and analyze':28} {time.perf_counter() - started:7.0f} s")


def truth(asked: argparse.Namespace) -> None:
    """Find the exact answers; see `truth`."""
    from benchmarks.search_scale.truth import write

    write(asked)


def measure(asked: argparse.Namespace) -> None:
    """Read all into memory, then ask; see `measuring`."""
    from benchmarks.search_scale.measuring import run

    _warm()
    run(asked)


def _warm() -> None:
    """Read the tables and indexes that searches use into Postgres' memory."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
        cursor.execute(
            "SELECT sum(pg_prewarm(oid::regclass)) FROM pg_class WHERE relkind IN ('r', 'i', 't')"
            " AND relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace)"
            " AND pg_relation_size(oid) > 8192"
        )
        print(f"  {float(cursor.fetchone()[0]) * 8192 / 1e9:.1f} GB read into memory")
