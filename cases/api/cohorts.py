"""API v1 of cohorts: curate, share, read."""

from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from cases import permissions
from cases.api import filters
from cases.api.audited import UUID_PATTERN
from cases.api.fields import DepartmentCodeField
from cases.errors import DomainError
from cases.models import ApiToken, Cohort, CohortEntry, Department, SlideImage
from cases.services import cohorts
from cases.services.audit import access_events_listed

_MAX_IDS = 1000


class UnknownSlideImage(DomainError):
    """An id names no slide image that the caller may see."""

    code = "unknown_slide_image"
    message = _("One of these slide images does not exist, or you may not see it.")


class UnknownSharingDepartment(DomainError):
    """A code names no department of the site."""

    code = "unknown_department"
    message = _("One of these departments does not exist.")


class CohortSerializer(serializers.ModelSerializer):
    """A cohort; `entry_count` counts the slides in it that the caller may see."""

    department = DepartmentCodeField()
    shared_with = serializers.SerializerMethodField()
    entry_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Cohort
        fields = (
            "id",
            "department",
            "name",
            "description",
            "shared_with",
            "entry_count",
            "created_at",
            "updated_at",
        )
        # Two cohorts of one name: the service answers, as 409.
        validators: list = []

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_shared_with(self, cohort: Cohort) -> list[str]:
        """Return department codes: all for the owner; for others only their own."""
        own = permissions.departments_of(self.context["request"].user)
        owner = cohort.department_id in own
        return sorted(d.code for d in cohort.shared_with.all() if owner or d.pk in own)


class CohortChangeSerializer(serializers.ModelSerializer):
    class Meta:
        model = Cohort
        fields = ("name", "description")


class CohortEntrySerializer(serializers.ModelSerializer):
    """A slide in a cohort, or one that was removed from it, with the reason."""

    class Meta:
        model = CohortEntry
        fields = ("id", "slide_image", "note", "created_at", "removed_at", "removed_reason")


class EntriesAddSerializer(serializers.Serializer):
    slide_images = serializers.ListField(
        child=serializers.UUIDField(), allow_empty=False, max_length=_MAX_IDS
    )
    note = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class EntriesAddedSerializer(serializers.Serializer):
    added = serializers.IntegerField()
    already_in = serializers.IntegerField()
    of_other_departments = serializers.IntegerField()


class EntriesRemoveSerializer(serializers.Serializer):
    entries = serializers.ListField(
        child=serializers.UUIDField(), allow_empty=False, max_length=_MAX_IDS
    )
    reason = serializers.CharField(max_length=300)


class EntriesRemovedSerializer(serializers.Serializer):
    removed = serializers.IntegerField()


class ShareSerializer(serializers.Serializer):
    departments = serializers.ListField(
        child=serializers.SlugField(max_length=40),
        max_length=_MAX_IDS,
        help_text="Codes; the cohort is then shared with exactly these",
    )


class CohortViewSet(RetrieveModelMixin, ListModelMixin, viewsets.GenericViewSet):
    """Curated sets of slides: one's departments', and those shared with them."""

    read_scope = ApiToken.Scope.COHORTS_READ
    write_scope = ApiToken.Scope.COHORTS_WRITE
    parser_classes = [JSONParser]
    serializer_class = CohortSerializer
    filterset_class = filters.CohortFilters
    ordering_fields = ("name", "created_at", "updated_at")
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Cohort]:
        return cohorts_with_counts(self.request.user)

    def create(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        cohort = cohorts.cohort_create(user=request.user, **data.validated_data)
        return self._answer(cohort, status.HTTP_201_CREATED)

    @extend_schema(request=CohortChangeSerializer(partial=True))
    def partial_update(self, request: Request, pk: str) -> Response:
        cohort = self.get_object()
        data = CohortChangeSerializer(cohort, data=request.data, partial=True)
        data.is_valid(raise_exception=True)
        fields = {"name": cohort.name, "description": cohort.description, **data.validated_data}
        return self._answer(cohorts.cohort_update(user=request.user, cohort=cohort, **fields))

    @extend_schema(request=ShareSerializer, responses=CohortSerializer)
    @action(detail=True, methods=["put"], filter_backends=[])
    def share(self, request: Request, pk: str) -> Response:
        """Share the cohort with exactly these departments: its slides open to their members."""
        data = ShareSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        cohort = get_cohort(request.user, pk)
        # Asked for before the codes are looked up: who may not share learns no codes.
        permissions.require(request.user, "share_cohort", cohort.department_id)
        codes = set(data.validated_data["departments"])
        departments = list(Department.objects.filter(code__in=codes))
        if len(departments) < len(codes):
            raise UnknownSharingDepartment
        cohorts.cohort_share(user=request.user, cohort=cohort, departments=departments)
        return self._answer(cohort)

    def _answer(self, cohort: Cohort, code: int = status.HTTP_200_OK) -> Response:
        row = self.get_queryset().get(pk=cohort.pk)
        return Response(CohortSerializer(row, context=self.get_serializer_context()).data, code)


class CohortEntryViewSet(ListModelMixin, viewsets.GenericViewSet):
    """The slides of a cohort; in one's own department the removed ones too."""

    read_scope = ApiToken.Scope.COHORTS_READ
    write_scope = ApiToken.Scope.COHORTS_WRITE
    parser_classes = [JSONParser]
    serializer_class = CohortEntrySerializer
    filterset_class = filters.CohortEntryFilters
    ordering_fields = ("created_at", "removed_at")

    def get_queryset(self) -> QuerySet[CohortEntry]:
        return (
            CohortEntry.objects.visible_to(self.request.user)
            .filter(cohort=self.kwargs.get("cohort_pk"))
            .select_related("slide_image__slide__case")
        )

    def list(self, request: Request, cohort_pk: str) -> Response:
        get_cohort(request.user, cohort_pk)
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        cases = [row.slide_image.slide.case for row in page]
        access_events_listed(
            user=request.user,
            object_type="cohortentry",
            subjects=((case.patient_id, case.department_id) for case in cases),
            detail={"list": True, "cohort": cohort_pk},
        )
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=EntriesAddSerializer, responses={200: EntriesAddedSerializer})
    def create(self, request: Request, cohort_pk: str) -> Response:
        """Put slide images into the cohort."""
        data = EntriesAddSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        wanted = set(data.validated_data["slide_images"])
        cohort = get_cohort(request.user, cohort_pk)
        # Asked for before the slides are looked up, as for `share`.
        permissions.require(request.user, "curate_cohort", cohort.department_id)
        images = SlideImage.objects.visible_to(request.user).filter(pk__in=wanted)
        if len(images) < len(wanted):
            raise UnknownSlideImage
        added = cohorts.cohort_add(
            user=request.user, cohort=cohort, slide_images=images, note=data.validated_data["note"]
        )
        return Response(EntriesAddedSerializer(added).data)

    @extend_schema(request=EntriesRemoveSerializer, responses={200: EntriesRemovedSerializer})
    @action(detail=False, methods=["post"])
    def remove(self, request: Request, cohort_pk: str) -> Response:
        """Take entries out of the cohort; they stay on record with the reason."""
        data = EntriesRemoveSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        removed = cohorts.cohort_remove(
            user=request.user, cohort=get_cohort(request.user, cohort_pk), **data.validated_data
        )
        return Response({"removed": removed})


def get_cohort(user: Any, pk: str) -> Cohort:
    """Return the cohort, or raise Http404 where it is hidden or missing."""
    return Cohort.objects.all().get_visible_or_404(user, pk=pk)


def cohorts_with_counts(user: Any) -> QuerySet[Cohort]:
    """Return the user's cohorts, each with the count of its slides that the user sees."""
    entries = (
        CohortEntry.objects.visible_to(user)
        .filter(cohort=OuterRef("pk"), removed_at__isnull=True)
        .order_by()
        .values("cohort")
        .annotate(count=Count("pk", distinct=True))
        .values("count")
    )
    return (
        Cohort.objects.visible_to(user)
        .select_related("department")
        .prefetch_related("shared_with")
        .annotate(entry_count=Coalesce(Subquery(entries), 0))
    )
