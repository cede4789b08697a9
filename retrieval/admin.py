"""The administration of embedding models and, to look at, the state of indexing."""

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from cases import permissions
from cases.admin_access import ClinicalAdmin, ClinicalInline, RoleAdmin
from cases.models import Patient
from cases.services.audit import Action, access_event_record
from retrieval.models import EmbeddingModel, SearchHit, SearchQuery, SlideIndex
from retrieval.services.models import model_activate


@admin.register(EmbeddingModel)
class EmbeddingModelAdmin(RoleAdmin):
    """Recipes, which never change; one of each modality is what searches use."""

    actions = ["activate"]

    list_display = ["name", "modality", "encoder", "aggregator", "dimension", "is_active"]
    list_filter = ["modality", "is_active"]
    exclude = ["centre"]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.is_system_administrator(request.user)

    @admin.action(description="Use the chosen model for searches")
    def activate(self, request: HttpRequest, queryset: QuerySet) -> None:
        models = list(queryset)
        if len(models) != 1:
            messages.error(request, "Choose one model.")
            return
        model_activate(model=models[0])
        access_event_record(
            user=request.user,
            action=Action.CHANGE,
            target=models[0],
            detail={"activated": models[0].name},
        )
        messages.success(request, f"Searches use {models[0].name} from now on.")


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
    exclude = ["image_jpeg", "mosaic", "vector"]
    inlines = [SearchHitInline]

    def patient_of(self, obj: SearchQuery) -> Patient | None:
        return obj.slide_image.slide.case.patient if obj.slide_image else None
