"""The administration of embedding models and, to look at, the state of indexing."""

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from cases import permissions
from cases.admin_access import ClinicalAdmin, ClinicalInline, RoleAdmin
from cases.errors import DomainError
from cases.models import Patient
from cases.row_scope import acting_for_system
from retrieval.admin_recall import SearchCostsAdmin, SearchSelfCheckAdmin
from retrieval.admin_words import DepartmentTermAdmin
from retrieval.models import EmbeddingModel, SearchHit, SearchQuery, SlideIndex
from retrieval.services.archive_map import map_request
from retrieval.services.switching import (
    model_activate,
    model_coverage,
    model_reembed,
    model_retire,
)

# Registered in files of their own.
__all__ = ["DepartmentTermAdmin", "SearchCostsAdmin", "SearchSelfCheckAdmin"]


@admin.register(EmbeddingModel)
class EmbeddingModelAdmin(RoleAdmin):
    """Recipes, which never change; one of each modality is what searches use."""

    actions = ["activate", "activate_despite_gaps", "reembed", "lay_out", "retire"]

    list_display = [
        "name",
        "modality",
        "encoder",
        "aggregator",
        "dimension",
        "is_active",
        "is_kept_current",
        "coverage",
    ]
    list_filter = ["modality", "is_active"]
    exclude = ["centre"]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.is_system_administrator(request.user)

    @admin.display(description="Embedded, of what the active model has")
    def coverage(self, model: EmbeddingModel) -> str:
        with acting_for_system("how far a model is with the whole archive, in numbers"):
            found = model_coverage(model)
        waiting = f", {found.waiting} waiting" if found.waiting else ""
        failed = f", {found.failed} failed" if found.failed else ""
        return f"{found.covered} of {found.wanted} ({found.percent} %){waiting}{failed}"

    @admin.action(description="Use the chosen model for searches")
    def activate(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._activate(request, queryset, force=False)

    @admin.action(description="Use it although slides that it lacks drop out of searches")
    def activate_despite_gaps(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._activate(request, queryset, force=True)

    def _activate(self, request: HttpRequest, queryset: QuerySet, *, force: bool) -> None:
        def act(model: EmbeddingModel) -> str:
            model_activate(model=model, user=request.user, force=force)
            return f"Searches use {model.name} from now on."

        self._with_one(request, queryset, act)

    @admin.action(description="Lay the map of the archive out again, in the background")
    def lay_out(self, request: HttpRequest, queryset: QuerySet) -> None:
        def act(model: EmbeddingModel) -> str:
            map_request(model=model, user=request.user)
            return f"The map of {model.name} is laid out by a worker."

        self._with_one(request, queryset, act)

    @admin.action(description="Embed the archive by the chosen model, in the background")
    def reembed(self, request: HttpRequest, queryset: QuerySet) -> None:
        def act(model: EmbeddingModel) -> str:
            waiting = model_reembed(model=model, user=request.user)
            return f"{waiting} slides wait to be embedded by {model.name}."

        self._with_one(request, queryset, act)

    @admin.action(description="Index new slides by the chosen model no longer")
    def retire(self, request: HttpRequest, queryset: QuerySet) -> None:
        def act(model: EmbeddingModel) -> str:
            model_retire(model=model, user=request.user)
            return f"New slides are not indexed by {model.name} any more."

        self._with_one(request, queryset, act)

    def _with_one(
        self, request: HttpRequest, queryset: QuerySet, act: Callable[[EmbeddingModel], str]
    ) -> None:
        models = list(queryset)
        if len(models) != 1:
            messages.error(request, "Choose one model.")
            return
        try:
            messages.success(request, act(models[0]))
        except DomainError as error:
            messages.error(request, error.message)


@admin.register(SlideIndex)
class SlideIndexAdmin(ClinicalAdmin):
    """The state of indexing; a failed one is tried again on the page of the tasks."""

    list_display = ["slide_image", "model", "state", "attempts", "reason_code", "created_at"]
    list_filter = ["state", "model"]
    list_select_related = ["slide_image__slide__case__patient", "model"]

    def patient_of(self, obj: SlideIndex) -> Patient:
        return obj.slide_image.slide.case.patient


class SearchHitInline(ClinicalInline):
    """The answers that the reader may see too."""

    model = SearchHit
    fields = ["rank", "slide_image", "score", "judged"]
    readonly_fields = ["judged"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = SearchHit.objects.visible_to(request.user)
        return rows.select_related("slide_image__slide").prefetch_related("feedback")

    @admin.display(description="Relevant / not relevant")
    def judged(self, hit: SearchHit) -> str:
        verdicts = [feedback.verdict for feedback in hit.feedback.all()]
        relevant = verdicts.count("relevant")
        return f"{relevant} / {len(verdicts) - relevant}"


@admin.register(SearchQuery)
class SearchQueryAdmin(ClinicalAdmin):
    """Questions and their answers, for who may read them anyway."""

    list_display = ["id", "user", "slide_image", "text", "created_at", "seconds"]
    list_select_related = ["user", "slide_image__slide__case__patient"]
    # The plan of a large search holds an estimate that is made of hidden rows too.
    exclude = ["image_jpeg", "mosaic", "vector", "timings"]
    inlines = [SearchHitInline]

    def patient_of(self, obj: SearchQuery) -> Patient | None:
        return obj.slide_image.slide.case.patient if obj.slide_image else None
