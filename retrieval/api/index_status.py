"""API v1 of the state of indexing."""

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cases import identity
from cases.api.audited import UUID_PATTERN
from cases.api.moments import MomentFilter
from cases.models import ApiToken
from retrieval import selectors_indexing
from retrieval.models import SlideIndex
from retrieval.services.dicom_results import results_request


class IndexStatusSerializer(serializers.ModelSerializer):
    """One slide image's index: its state, how far it is, and why it is not there."""

    department = serializers.CharField(source="department.code", read_only=True)
    model = serializers.CharField(source="model.name", read_only=True)
    progress_percent = serializers.IntegerField(read_only=True)
    # Null where identities are veiled: when a slide was indexed tells when it came.
    changed_at = serializers.DateTimeField(read_only=True, allow_null=True)
    settles_at = serializers.DateTimeField(
        source="slide_image.settles_at",
        read_only=True,
        allow_null=True,
        help_text="Until then more instances of the series may come; it is indexed after that",
    )

    class Meta:
        model = SlideIndex
        fields = (
            "id",
            "slide_image",
            "department",
            "model",
            "state",
            "reason_code",
            "reason",
            "attempts",
            "progress_step",
            "progress_done",
            "progress_total",
            "progress_percent",
            "patch_count",
            "timings",
            "enqueued_at",
            "started_at",
            "finished_at",
            "created_at",
            "changed_at",
            "settles_at",
        )
        read_only_fields = fields


class IndexStatusFilters(django_filters.FilterSet):
    """`?state=failed&department=…&slide_image=…&accession_number=…`."""

    state = django_filters.MultipleChoiceFilter(choices=SlideIndex.State.choices)
    department = django_filters.CharFilter(field_name="department__code")
    slide_image = django_filters.UUIDFilter(field_name="slide_image_id")
    accession_number = django_filters.CharFilter(
        field_name="slide_image__slide__case__accession_number"
    )
    changed_since = MomentFilter(field_name="changed_at", lookup_expr="gte")

    def filter_queryset(self, queryset: QuerySet[SlideIndex]) -> QuerySet[SlideIndex]:
        """Narrow the list; by accession number only where the caller may know it."""
        if self.form.cleaned_data["accession_number"]:
            queryset = identity.plain_only(self.request.user, queryset)
        return super().filter_queryset(queryset)

    class Meta:
        model = SlideIndex
        fields: tuple[str, ...] = ()


class IndexStatusViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet):
    """The state of indexing of the slide images that the caller may see."""

    read_scope = ApiToken.Scope.INDEX_READ
    write_scope = ApiToken.Scope.DICOMWEB_WRITE
    serializer_class = IndexStatusSerializer
    filterset_class = IndexStatusFilters
    ordering_fields = ("created_at", "changed_at", "state")
    ordering = ("-changed_at", "pk")
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[SlideIndex]:
        return selectors_indexing.slide_indexes(user=self.request.user).select_related(
            "department", "model", "slide_image"
        )

    @extend_schema(request=None, responses={202: IndexStatusSerializer})
    @action(detail=True, methods=["post"], url_path="dicom-results", filter_backends=[])
    def dicom_results(self, request: Request, pk: str) -> Response:
        """Write mosaic regions and likeness map as DICOM objects, in the background."""
        index = self.get_object()
        results_request(user=request.user, index=index)
        return Response(self.get_serializer(index).data, status.HTTP_202_ACCEPTED)
