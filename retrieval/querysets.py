"""Visibility of what retrieval keeps, and all distance SQL and ANN settings, nowhere else."""

from typing import Any, Self

from django.apps import apps
from django.db.models import Q

from cases.permissions import departments_of
from cases.querysets import SlideImagePartQuerySet, VisibleQuerySet, shared_entries


class SlideEmbeddingQuerySet(SlideImagePartQuerySet):
    """Embeddings; candidates by distance."""


class ReportEmbeddingQuerySet(VisibleQuerySet):
    def _visible(self, departments: frozenset[int]) -> Q:
        shared = shared_entries(departments).values("slide_image__slide__case_id")
        return Q(department__in=departments) | Q(report__case__in=shared)


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
        only_a_slide = Q(text="", slide_image__isnull=False)
        return self.filter(slide_is_visible & (Q(user=user) | scope_is_visible | only_a_slide))
