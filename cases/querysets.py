"""`visible_to(user)`: the one door to rows.

A member sees the rows of the department. Beyond that only a cohort that was shared with
one of the user's departments opens the slide images in it, with their case and reports.
Every other queryset, count, facet, tile and neighbour is built on these.

`readable_by(user)` adds the cases that were opened to this user alone (`cases.openings`): for the
page of one case and what is on it, never for a list or a search.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self
from uuid import UUID

from django.db import connections
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.shortcuts import get_object_or_404

from cases import identity
from cases.openings import case_ids, openings, patient_ids
from cases.permissions import departments_of, departments_with, reviewed_departments


class VisibleQuerySet(QuerySet):
    """Base: subclasses say in `_visible(departments)` what those departments may see."""

    def _visible(self, departments: frozenset[int]) -> Q:
        raise TypeError(f"{type(self).__name__} does not say what is visible")

    def visible_to(self, user: Any) -> Self:
        """Return only the rows that this user may know of."""
        departments = departments_of(user)
        if not departments:
            return self.none()
        return self.filter(self._visible(departments))

    def _opened(self, user: Any) -> Q | None:
        """Return which rows were opened to this user alone; None: rows like these never are."""
        return None

    def readable_by(self, user: Any) -> Self:
        """Return the rows that this user may know of, or open by their address."""
        visible = self.visible_to(user)
        opened = self._opened(user) if openings(user) else None
        return visible if opened is None else self.filter(Q(pk__in=visible.values("pk")) | opened)

    def bulk_update(self, objs: Any, *args: Any, **kwargs: Any) -> int:
        objs = list(objs)
        for row in objs:
            identity.require_plain(row)
        return super().bulk_update(objs, *args, **kwargs)

    def get_visible_or_404(self, user: Any, **lookup: Any) -> Any:
        """Return the one row of the lookup that may be read; hidden and missing are one 404."""
        return get_object_or_404(self.readable_by(user), **lookup)


_nothing_shared: ContextVar[frozenset[int] | None] = ContextVar("nothing_shared", default=None)


def shared_entries(departments: frozenset[int]) -> QuerySet:
    """Return the active entries of cohorts that are shared with one of the departments.

    Only the owner of a slide opens it: an entry that points at another department's slide
    (seen through that department's own sharing) opens nothing, or sharing could be passed on.
    """
    from django.apps import apps  # the models import this module

    entries = apps.get_model("cases", "CohortEntry").objects
    if nothing_is_shared(departments):
        return entries.none()  # and with it the OR that keeps Postgres from its indexes
    return entries.filter(
        removed_at__isnull=True,
        cohort__shared_with__in=departments,
        cohort__department=F("slide_image__department"),
    )


def nothing_is_shared(departments: frozenset[int]) -> bool:
    """Return whether it was looked up, for this answer, that no cohort opens anything more."""
    return _nothing_shared.get() == departments


@contextmanager
def sharing_looked_up(user: Any) -> Iterator[None]:
    """Look up once, for the statements of one answer, whether anything is shared with the user.

    An answer is made of many statements, and most departments share nothing.
    """
    departments = departments_of(user)
    outer = _nothing_shared.set(None)
    try:
        if not shared_entries(departments).exists():
            _nothing_shared.set(departments)
        yield
    finally:
        _nothing_shared.reset(outer)


class DepartmentQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        return Q(pk__in=departments)


class OwnedQuerySet(VisibleQuerySet):
    """Rows that belong to a department and are never shared (uploads, work lists)."""

    def _visible(self, departments: frozenset[int]) -> Q:
        return Q(department__in=departments)


class RetentionQuerySet(VisibleQuerySet):
    """What is to be deleted or kept: for those who decide it."""

    def visible_to(self, user: Any) -> Self:
        return self.filter(department__in=departments_with(user, "retire_cases"))


class IntakeQuerySet(OwnedQuerySet):
    """What arrived, as senders name it: for those who may know the people in it."""

    def visible_to(self, user: Any) -> Self:
        known = departments_with(user, "view_identity")
        return super().visible_to(user).filter(department__in=known)


class PatientQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide__case__patient_id")
        return Q(department__in=departments) | Q(pk__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(pk__in=patient_ids(user))


class CaseQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide__case_id")
        return Q(department__in=departments) | Q(pk__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(pk__in=case_ids(user))


class CasePartQuerySet(VisibleQuerySet):
    """Specimens and reports: seen with their case."""

    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide__case_id")
        return Q(case__department__in=departments) | Q(case__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(case__in=case_ids(user))


class BlockQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide__case_id")
        return Q(specimen__case__department__in=departments) | Q(specimen__case__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(specimen__case__in=case_ids(user))


class SlideQuerySet(VisibleQuerySet):
    """Glass slides: of a shared case only those whose image is in the shared cohort."""

    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide_id")
        return Q(case__department__in=departments) | Q(pk__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(case__in=case_ids(user))


class SlideImageQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image_id")
        return Q(department__in=departments) | Q(pk__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(slide__case__in=case_ids(user))


class SlideImagePartQuerySet(VisibleQuerySet):
    """Rows that hang on a slide image (instances, index state, embeddings)."""

    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image_id")
        return Q(department__in=departments) | Q(slide_image__in=shared)

    def _opened(self, user: Any) -> Q:
        return Q(slide_image__slide__case__in=case_ids(user))


class SlideRegionQuerySet(SlideImagePartQuerySet):
    """What people drew on slides, with names and notes: for those who may know patients."""

    def visible_to(self, user: Any) -> Self:
        known = departments_with(user, "view_identity")
        return self.filter(self._visible(known)) if known else self.none()


class CohortQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        from django.apps import apps

        shared = (
            apps.get_model("cases", "Cohort")
            .shared_with.through.objects.filter(department_id__in=departments)
            .values("cohort_id")
        )
        return Q(department__in=departments) | Q(pk__in=shared)


class CohortEntryQuerySet(VisibleQuerySet):
    """Entries whose slide one may see; removed ones and their reasons only in one's own cohort."""

    def _visible(self, departments: frozenset[int]) -> Q:
        own = Q(cohort__department__in=departments)
        shared = Q(cohort__shared_with__in=departments, removed_at__isnull=True)
        slide_is_visible = Q(slide_image__department__in=departments) | Q(
            slide_image__in=shared_entries(departments).values("slide_image_id")
        )
        return (own | shared) & slide_is_visible

    def visible_to(self, user: Any) -> Self:
        # A cohort can be shared with two of the user's departments.
        return super().visible_to(user).distinct()


class BoardItemQuerySet(VisibleQuerySet):
    """Items of one's own department's meetings, of cases that one may see."""

    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide__case_id")
        case_is_visible = Q(case__department__in=departments) | Q(case__in=shared)
        return Q(meeting__department__in=departments) & case_is_visible


class OpeningQuerySet(VisibleQuerySet):
    """What opens a case for a time: until `end`, unless it was ended before."""

    end = ""

    def _still(self) -> Q:
        return Q(ended_at=None, **{f"{self.end}__gt": Now()})

    def open(self) -> Self:
        """Return those that still open something."""
        return self.filter(self._still())

    def over(self) -> Self:
        """Return those that open nothing any more."""
        return self.exclude(self._still())


class EmergencyQuerySet(OpeningQuerySet):
    """Emergency accesses: one's own, and those that one reviews for a department."""

    end = "expires_at"

    def visible_to(self, user: Any) -> Self:
        if not getattr(user, "is_authenticated", False):
            return self.none()
        return self.filter(Q(user=user.pk) | Q(department__in=reviewed_departments(user)))

    def to_review(self, user: Any) -> Self:
        """Return those of the departments for which the user reviews; nobody reviews the own."""
        return self.filter(department__in=reviewed_departments(user)).exclude(user=user.pk)


class ConsultQuerySet(OpeningQuerySet):
    """Consults: those about one's department's cases, and open ones to oneself."""

    end = "until"

    def visible_to(self, user: Any) -> Self:
        return self.asked_by_department_of(user) | self.asked_of(user)

    def asked_by_department_of(self, user: Any) -> Self:
        """Return the consults about cases of the user's departments, whatever became of them."""
        return self.filter(department__in=departments_with(user, "view_identity"))

    def asked_of(self, user: Any) -> Self:
        """Return the open consults to the user, or to a department of theirs."""
        known = departments_with(user, "view_identity")
        if not known:
            return self.none()
        return self.open().filter(Q(to_user=user.pk) | Q(to_department__in=known))


class AppendOnlyQuerySet(QuerySet):
    """Rows that are written once: no update, no delete."""

    def update(self, **kwargs: Any) -> int:
        raise TypeError("Access events are append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("Access events are append-only")

    def insert_alike(self, subjects: list[tuple[UUID, int]], **same: Any) -> None:
        """Write an event per (patient, department), all else the same, in one statement.

        A page shows dozens of patients; a model instance for each takes longer than Postgres.
        same: every other field but `id`, by its column.
        """
        columns = ", ".join(same)
        values = ", ".join(f"%({name})s" for name in same)
        statement = (
            f"INSERT INTO {self.model._meta.db_table}"  # noqa: S608  (names of our own columns)
            f" (id, patient_id, department_id, {columns})"
            f" SELECT gen_random_uuid(), patient, department, {values}"
            " FROM unnest(%(patients)s::uuid[], %(departments)s::bigint[])"
            " AS shown (patient, department)"
        )
        with connections[self.db].cursor() as cursor:
            cursor.execute(
                statement,
                {
                    **same,
                    "patients": [patient for patient, _department in subjects],
                    "departments": [department for _patient, department in subjects],
                },
            )


class HistoryQuerySet(VisibleQuerySet):
    """What rows were before: for those of the department who may read it, and nobody else."""

    def visible_to(self, user: Any) -> Self:
        return self.filter(department_id__in=departments_with(user, "read_history"))

    def update(self, **kwargs: Any) -> int:
        raise TypeError("The history is append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("The history is append-only")
