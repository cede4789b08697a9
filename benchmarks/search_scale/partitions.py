"""The same searches over embeddings in one table, and partitioned by the hash of the department.

    python -m benchmarks.search_scale.partitions --folder /var/tmp/scale --slides 100000

Takes an archive that `benchmarks.search_scale` filled and built, copies its embeddings into a
table of partitions whose keys have the department in them, asks the same questions of both by
the same code, and puts the one table back.
"""

import argparse
import time
from pathlib import Path

from benchmarks.search_scale import server

TABLE = "retrieval_slideembedding"
WHOLE = f"{TABLE}_whole"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_scale.partitions")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slides", type=int, required=True)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--queries", type=int, default=20)
    asked = parser.parse_args()
    server.start(asked.folder, asked.slides)
    try:
        _compare(asked)
    finally:
        server.stop_server()


def _compare(asked: argparse.Namespace) -> None:
    from django.db import connection

    from benchmarks.search_scale import asking
    from benchmarks.search_scale.vectors import World
    from cases import row_security
    from cases.row_scope import acting_as_owner

    world = World()
    asking.without_encoders(world)
    questions = {}
    for sees in asking.USERS:
        client = asking.Client(sees, world, seed=4)
        questions[sees] = (client, [client.question("slide") for _ in range(asked.queries)])
    whole = _ask(questions, "one table")
    with acting_as_owner("another shape of the table"):
        _partition(asked.partitions)
        row_security.install(connection)
    try:
        parts = _ask(questions, f"{asked.partitions} partitions")
    finally:
        with acting_as_owner("the table as it was"):
            _put_back()
            row_security.install(connection)
    for sees in questions:
        same = sum(a == b for a, b in zip(whole[sees], parts[sees], strict=True))
        print(f"sees {sees:6}: {same} of {len(whole[sees])} answers are the same")


def _ask(questions: dict, name: str) -> dict[str, list]:
    from benchmarks.search_scale.asking import percentiles

    found = {}
    for sees, (client, asked) in questions.items():
        for question in asked:
            client.ask(question)  # warms up
        answers = [client.ask(question) for question in asked]
        print(f"{name:14} sees {sees:6}{percentiles([a[0] for a in answers])} ms (p50, p95, p99)")
        found[sees] = [answer[2][:10] for answer in answers]
    return found


def _partition(count: int) -> None:
    from django.db import connection

    from retrieval.models import EmbeddingModel, SlideEmbedding
    from retrieval.querysets import vector_index_ensure, vector_index_name

    started = time.perf_counter()
    model = EmbeddingModel.objects.get(modality="image", is_active=True)
    index = vector_index_name(SlideEmbedding, model)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO {WHOLE}")
        cursor.execute(f"ALTER INDEX {index} RENAME TO {index}_whole")
        cursor.execute(
            f"CREATE TABLE {TABLE} (LIKE {WHOLE} INCLUDING DEFAULTS INCLUDING STORAGE,"
            " PRIMARY KEY (department_id, id), UNIQUE (department_id, slide_image_id, model_id))"
            " PARTITION BY HASH (department_id)"
        )
        for number in range(count):
            cursor.execute(
                f"CREATE TABLE {TABLE}_p{number} PARTITION OF {TABLE}"
                f" FOR VALUES WITH (MODULUS {count}, REMAINDER {number})"
            )
        cursor.execute(f"INSERT INTO {TABLE} SELECT * FROM {WHOLE}")
        cursor.execute(f"CREATE INDEX ON {TABLE} (slide_image_id)")
        cursor.execute(f"CREATE INDEX ON {TABLE} (model_id, department_id)")
        cursor.execute(f"CREATE INDEX ON {TABLE} USING gin (cells) WITH (fastupdate = off)")
    _index_inside(SlideEmbedding, model, vector_index_ensure)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {TABLE}")
    print(f"partitioned in {time.perf_counter() - started:.0f} s")


def _index_inside(table, model, ensure) -> None:
    """Build the HNSW index of each partition: not concurrently, which a parent does not allow."""
    from django.db import transaction

    with transaction.atomic():
        ensure(table, model)


def _put_back() -> None:
    from django.db import connection

    from retrieval.models import EmbeddingModel, SlideEmbedding
    from retrieval.querysets import vector_index_name

    model = EmbeddingModel.objects.get(modality="image", is_active=True)
    index = vector_index_name(SlideEmbedding, model)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
        cursor.execute(f"ALTER TABLE {WHOLE} RENAME TO {TABLE}")
        cursor.execute(f"ALTER INDEX {index}_whole RENAME TO {index}")


if __name__ == "__main__":
    main()
