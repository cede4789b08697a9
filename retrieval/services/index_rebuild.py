"""Rebuilding the indexes of searches, concurrently: nobody waits for it."""

from django.db import connection

from cases.row_scope import acting_as_owner
from retrieval.models import EmbeddingModel, ReportEmbedding, ReportWords, SlideEmbedding
from retrieval.querysets import vector_index_ensure, vector_index_is_ready
from retrieval.services.models import embedding_table

_TABLES = (SlideEmbedding, ReportEmbedding, ReportWords)


def search_indexes() -> list[str]:
    """Return the indexes that a search may go through: of vectors, of cells, of words.

    An index of vectors that is missing or was left half built by a crash is built first.
    """
    for model in EmbeddingModel.objects.order_by("pk"):
        table = embedding_table(model)
        if table.objects.filter(model=model).exists() and not vector_index_is_ready(table, model):
            vector_index_ensure(table, model)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_class.relname FROM pg_index"
            " JOIN pg_class ON pg_class.oid = pg_index.indexrelid"
            " JOIN pg_am ON pg_am.oid = pg_class.relam"
            " WHERE pg_index.indrelid = ANY(%s::regclass[]) AND pg_am.amname IN ('hnsw', 'gin')"
            " AND pg_index.indisvalid ORDER BY pg_class.relname",
            [[table._meta.db_table for table in _TABLES]],
        )
        return [name for (name,) in cursor.fetchall()]


def search_index_rebuild(*, name: str) -> None:
    """Rebuild one index of `search_indexes`; the old one answers until the new one is whole.

    What an earlier rebuild left when it was killed (`…_ccnew`) is dropped first.
    """
    quote = connection.ops.quote_name
    with acting_as_owner("an index"), connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid"
            " WHERE relname LIKE %s AND NOT indisvalid",
            [name.replace("_", r"\_") + r"\_cc%"],
        )
        for (left_over,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quote(left_over)}")
        cursor.execute(f"REINDEX INDEX CONCURRENTLY {quote(name)}")
