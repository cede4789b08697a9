"""Visibility of what retrieval keeps, and all distance SQL and ANN settings, nowhere else.

Similarity is the cosine; `<=>` is 1 minus it, so that ascending order is nearest first. The
`vector` columns have no fixed width: each model has a partial HNSW index over
`vector::halfvec(D)` (`vector_index_ensure`).
"""

import heapq
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import numpy as np
from django.apps import apps
from django.db import connection, connections, transaction
from django.db.models import BinaryField, BooleanField, F, FloatField, Func, Model, Q, Value
from django.db.models.functions import Cast
from pgvector import HalfVector
from pgvector.django import HalfVectorField

from cases import identity
from cases.openings import case_ids
from cases.permissions import departments_of, is_presenting
from cases.querysets import SlideImagePartQuerySet, VisibleQuerySet, shared_entries
from cases.row_scope import acting_as_owner
from retrieval.binary_rows import binary_rows
from retrieval.engine.search_plan import Plan, ef_search_for
from retrieval.engine.token_codec import Probe
from retrieval.fields import places_from_bytes, shares_from_bytes
from retrieval.querysets_planned import costs_of, planned

# HNSW's own settings. Iterative scans go on until LIMIT rows passed the filters; the bound on
# scanned tuples is far above pgvector's 20,000, which starves a user who sees one row in fifty.
HNSW_M = 16
HNSW_EF_CONSTRUCTION = 64
HNSW_MAX_SCAN_TUPLES = 400_000
HNSW_SCAN_MEM_MULTIPLIER = 8
# Any number that no other two-part advisory lock of the site takes.
_INDEX_LOCK = 7_203


@dataclass(frozen=True)
class Neighbour:
    """A row near the query: its key and the cosine of the two vectors."""

    key: Any
    similarity: float


class _CosineDistance(Func):
    function = ""
    arg_joiner = " <=> "
    template = "(%(expressions)s)"
    output_field = FloatField()


class _IndexedVector(Cast):
    """`vector::halfvec(D)`, as the index has it: no other spelling finds the index."""

    def __init__(self, dimension: int) -> None:
        super().__init__("vector", HalfVectorField(dimensions=dimension))


def _literal(vector: np.ndarray, dimension: int) -> Any:
    value = Value(HalfVector(np.asarray(vector, dtype=np.float32)).to_text())
    return Cast(value, HalfVectorField(dimensions=dimension))


class AnyOf(Func):
    """A condition for many keys: one parameter, where `__in` has one for each."""

    arg_joiner = " = ANY("
    template = "%(expressions)s::uuid[])"
    output_field = BooleanField()

    def __init__(self, column: str, keys: Iterable[UUID]) -> None:
        super().__init__(F(column), Value("{" + ",".join(map(str, keys)) + "}"))


@contextmanager
def postgres_set(using: str, **settings: str | int) -> Iterator[None]:
    """Set these for the statements of this block, not for the rest of the transaction."""
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        # Compiling a statement that runs once takes longer than the statement.
        settings = {"jit": "off"} | settings
        cursor.execute(";".join(f'SET LOCAL "{name}" = {settings[name]}' for name in settings))
        yield
        cursor.execute(";".join(f'SET LOCAL "{name}" TO DEFAULT' for name in settings))


class VectorQuerySet(VisibleQuerySet):
    """Rows with an L2-normalised `vector` of a `model`."""

    def nearest(
        self,
        *,
        model: Any,
        vector: np.ndarray,
        limit: int,
        key: str,
        exact: bool | None = None,
        plan: Plan | None = None,
    ) -> list[Neighbour]:
        """Return the nearest rows of this queryset, nearest first, ties by key.

        Call it on a queryset that is already visible_to(user) and filtered: both are part of
        the one statement, before its LIMIT. The plan says whether rows are compared one by one
        or through HNSW, and, where one is given, how many; if HNSW finds too few, exactly.
        exact: True or False forces the way, for tests and benchmarks.
        """
        found = self._nearest_rows(
            model=model, vector=vector, limit=limit, columns=[key], exact=exact, plan=plan
        )
        neighbours = [Neighbour(found_key, 1 - distance) for found_key, distance in found]
        # Relaxed order is not quite sorted, and ties come as they lie on disk.
        return sorted(neighbours, key=lambda n: (-n.similarity, n.key))

    def plan(self, *, model: Any, limit: int) -> Plan:
        """Return the way that `nearest` would take."""
        return planned(self.filter(model=model), model, limit)

    def _nearest_rows(
        self,
        *,
        model: Any,
        vector: np.ndarray,
        limit: int,
        columns: list[Any],
        exact: bool | None = None,
        plan: Plan | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return these columns of the nearest rows, the distance last; about in order."""
        rows = self.filter(model=model)
        if exact is None:
            if plan is None:
                plan = planned(rows, model, limit)
            else:
                limit = plan.limit
            exact = plan.way == "exact"
        if exact:
            return rows._by_scan(model, vector, limit, columns)
        ef_search = plan.ef_search if plan else ef_search_for(limit, costs_of(model))
        found = rows._by_index(model, vector, limit, columns, ef_search)
        if len(found) < limit:
            return rows._by_scan(model, vector, limit, columns)
        return found

    def _by_scan(
        self, model: Any, vector: np.ndarray, limit: int, columns: list[Any]
    ) -> list[tuple[Any, ...]]:
        # The bare column is no expression of any index, so this is never an index scan.
        distance = _CosineDistance(F("vector"), _literal(vector, model.dimension))
        with postgres_set(self.db):
            return self._fetch(distance, limit, columns)

    def _by_index(
        self, model: Any, vector: np.ndarray, limit: int, columns: list[Any], ef_search: int
    ) -> list[tuple[Any, ...]]:
        distance = _CosineDistance(
            _IndexedVector(model.dimension), _literal(vector, model.dimension)
        )
        walk: dict[str, str | int] = {
            # The way is chosen by what was measured, not by Postgres' guess of a graph's cost.
            "enable_sort": "off",
            "hnsw.iterative_scan": "relaxed_order",
            "hnsw.ef_search": ef_search,
            "hnsw.max_scan_tuples": HNSW_MAX_SCAN_TUPLES,
            "hnsw.scan_mem_multiplier": HNSW_SCAN_MEM_MULTIPLIER,
        }
        with postgres_set(self.db, **walk):
            return self._fetch(distance, limit, columns)

    def _fetch(self, distance: Func, limit: int, columns: list[Any]) -> list[tuple[Any, ...]]:
        rows = self.annotate(_distance=distance).order_by("_distance")
        return binary_rows(rows.values_list(*columns, "_distance")[:limit])

    def similarities(
        self, *, model: Any, vector: np.ndarray, keys: Collection[Any], key: str
    ) -> dict[Any, float]:
        """Return the exact cosine of those rows of this queryset whose `key` is in `keys`."""
        distance = _CosineDistance(F("vector"), _literal(vector, model.dimension))
        rows = self.filter(AnyOf(key, keys), model=model).annotate(_distance=distance)
        return {found: 1 - far for found, far in binary_rows(rows.values_list(key, "_distance"))}


@dataclass(frozen=True)
class StoredMosaic:
    """What re-ranking needs of a slide: its tokens as stored, their places, the cosine."""

    slide_image_id: Any
    data: bytes
    codec_id: int | None
    place_data: bytes
    similarity: float

    @property
    def places(self) -> list[dict[str, float]]:
        """Return the places: for an answer, not for each candidate."""
        return places_from_bytes(self.place_data)

    @property
    def shares(self) -> np.ndarray:
        """Return the shares of the tissue float32 (M,)."""
        return shares_from_bytes(self.place_data)


# Plain bytes: places are unpacked for an answer, not for each candidate.
_MOSAIC = ["slide_image_id", "mosaic", "codec_id", Cast("places", BinaryField())]


def _as_mosaics(rows: list[tuple[Any, ...]]) -> list[StoredMosaic]:
    return [
        StoredMosaic(pk, data, codec_id, places, 1 - distance)
        for pk, data, codec_id, places, distance in rows
    ]


class SlideEmbeddingQuerySet(SlideImagePartQuerySet, VectorQuerySet):
    """Embeddings of slide images; candidates by distance."""

    def mosaics(
        self, *, model: Any, vector: np.ndarray, slide_image_ids: Collection[Any]
    ) -> list[StoredMosaic]:
        """Return the mosaics of those slides of this queryset, with the cosine to `vector`."""
        distance = _CosineDistance(F("vector"), _literal(vector, model.dimension))
        rows = self.filter(AnyOf("slide_image_id", slide_image_ids), model=model)
        rows = rows.annotate(_distance=distance).order_by("slide_image_id")
        return _as_mosaics(binary_rows(rows.values_list(*_MOSAIC, "_distance")))

    def nearest_mosaics(
        self, *, model: Any, vector: np.ndarray, limit: int, plan: Plan | None = None
    ) -> dict[Any, StoredMosaic]:
        """Return what `nearest` finds, with the mosaics, by slide image: one statement for both."""
        found = self._nearest_rows(
            model=model, vector=vector, limit=limit, columns=_MOSAIC, plan=plan
        )
        return {mosaic.slide_image_id: mosaic for mosaic in _as_mosaics(found)}

    def sharing_cells(self, *, probes: Sequence[Probe], limit: int) -> list[Any]:
        """Return the slide images of this queryset that share most with the probed cells.

        Each probe counts once by its weight, however many tokens fall into its cells.
        """
        if not probes:
            return []
        # Scored here: comparing sets of cells takes Postgres longer than sending them.
        probes_of: dict[int, list[int]] = defaultdict(list)
        for number, probe in enumerate(probes):
            for cell in probe.cells:
                probes_of[cell].append(number)
        rows = self.filter(cells__overlap=sorted(probes_of))
        scored = []
        with postgres_set(self.db):
            for pk, cells in binary_rows(rows.order_by().values_list("slide_image_id", "cells")):
                hit = {number for cell in cells for number in probes_of.get(cell, ())}
                scored.append((-sum(probes[number].weight for number in sorted(hit)), pk))
        return [pk for _score, pk in heapq.nsmallest(limit, scored)]


class ReportEmbeddingQuerySet(VectorQuerySet):
    """Embeddings of reports, seen with their case."""

    def _visible(self, departments: frozenset[int]) -> Q:
        # By the report's own key: a condition on its case would join it, shared or not.
        shared = shared_entries(departments).values("slide_image__slide__case__reports")
        return Q(department__in=departments) | Q(report__in=shared)


class DepartmentOwnQuerySet(VisibleQuerySet):
    """Rows that only the members of their department know of; no cohort opens them."""

    def _visible(self, departments: frozenset[int]) -> Q:
        return Q(department__in=departments)


class SearchHitQuerySet(SlideImagePartQuerySet):
    """Hits: a hit is seen only by who sees its slide image, whoever asked."""


class SearchQueryQuerySet(VisibleQuerySet):
    """Queries: one's own; a colleague's whose query slide and whole scope one may see."""

    def visible_to(self, user: Any) -> Self:
        departments = departments_of(user)
        if not departments:
            return self.none()
        slide_images = apps.get_model("cases", "SlideImage").objects.visible_to(user)
        slide_is_visible = Q(slide_image__isnull=True) | Q(slide_image__in=slide_images)
        scope_is_visible = Q(scope_department_ids__contained_by=sorted(departments))
        # Filter values are words too: they can name what the reader may not see.
        only_a_slide = Q(text="", filters={}, slide_image__isnull=False)
        readable = scope_is_visible | only_a_slide
        # A narrowed token does not read what its owner asked outside of its departments.
        if getattr(user, "token_department_ids", None) is None:
            readable |= Q(user=user)
        if identity.veils(user):  # a colleague's words may be somebody's name
            own = Q(user=user)
            if is_presenting(user):  # and so may one's own, from before
                own &= Q(created_at__gte=user.presenting_since)
            readable &= own | only_a_slide
        return self.filter(slide_is_visible & readable)

    def _opened(self, user: Any) -> Q:
        # One's own question by a slide of a case that was opened to oneself alone.
        return Q(user=user, slide_image__slide__case__in=case_ids(user))


class TrainingRunQuerySet(VisibleQuerySet):
    """Runs of training, seen by who belongs to every department whose slides are in it."""

    def _visible(self, departments: frozenset[int]) -> Q:
        return Q(scope_department_ids__contained_by=sorted(departments))


def vector_index_name(table: type[Model], model: Any) -> str:
    """Return the name of the model's HNSW index on this table."""
    return f"{table._meta.db_table}_hnsw_{model.pk}"


def vector_index_ensure(table: type[Model], model: Any) -> None:
    """Create the partial HNSW index of one embedding model, unless it is there and valid.

    Outside of a transaction it is built concurrently: searches and writes go on meanwhile.
    """
    if vector_index_is_ready(table, model):
        return
    if connection.in_atomic_block:
        _vector_index_create(table, model, "")
        return
    # One builder at a time. Waiting inside the database would hold a snapshot, for which the
    # other's concurrent build waits in turn.
    key = [_INDEX_LOCK, int(model.pk)]
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", key)
            if cursor.fetchone()[0]:
                break
            time.sleep(1)
        try:
            if not vector_index_is_ready(table, model):
                _vector_index_create(table, model, "CONCURRENTLY ")
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", key)


def _vector_index_create(table: type[Model], model: Any, how: str) -> None:
    quote = connection.ops.quote_name
    name = quote(vector_index_name(table, model))
    with acting_as_owner("an index"), connection.cursor() as cursor:
        # What a killed build left behind is there, but no search may use it.
        cursor.execute(f"DROP INDEX {how}IF EXISTS {name}")
        cursor.execute(
            f"CREATE INDEX {how}{name}"
            f" ON {quote(table._meta.db_table)}"
            f" USING hnsw ((vector::halfvec({int(model.dimension)})) halfvec_cosine_ops)"
            f" WITH (m = {HNSW_M}, ef_construction = {HNSW_EF_CONSTRUCTION})"
            f" WHERE model_id = {int(model.pk)}"
        )


def vector_index_is_ready(table: type[Model], model: Any) -> bool:
    """Return whether the model's HNSW index is there, complete and usable."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
            [connection.ops.quote_name(vector_index_name(table, model))],
        )
        row = cursor.fetchone()
    return bool(row and row[0])
