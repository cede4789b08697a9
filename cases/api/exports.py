"""API v1 of de-identified exports: ask, follow, fetch, remove; and their projects."""

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from cases import permissions
from cases.api.audited import UUID_PATTERN
from cases.api.cohorts import UnknownSlideImage, get_cohort
from cases.api.fields import DepartmentCodeField
from cases.errors import DomainError
from cases.file_response import DiskResponse
from cases.models import ApiToken, Export, ExportItem, ExportProject, SlideImage
from cases.services import export_projects, exports

Scope = ApiToken.Scope


class UnknownProject(DomainError):
    """An id names no export project that the caller may see."""

    code = "unknown_project"
    message = _("This export project does not exist, or you may not see it.")


class OneSource(DomainError):
    """Neither or both of slide images and cohort were named."""

    code = "one_source"
    message = _("Name either slide_images or a cohort.")


class ExportProjectSerializer(serializers.ModelSerializer):
    """A project that slides are exported for. Its key is never shown."""

    department = DepartmentCodeField()

    class Meta:
        model = ExportProject
        fields = ("id", "department", "name", "purpose", "created_at", "closed_at")
        read_only_fields = ("created_at", "closed_at")
        # Two projects of one name: the service answers, as 409.
        validators: list = []


class ExportItemSerializer(serializers.ModelSerializer):
    """What became of one slide image of the export."""

    class Meta:
        model = ExportItem
        fields = ("slide_image", "state", "reason_code", "reason", "instance_count")


class ExportSerializer(serializers.ModelSerializer):
    """An export and its progress."""

    department = DepartmentCodeField(read_only=True)
    progress_percent = serializers.IntegerField(read_only=True)

    class Meta:
        model = Export
        fields = (
            "id",
            "department",
            "project",
            "cohort",
            "with_diagnoses",
            "state",
            "created_at",
            "finished_at",
            "expires_at",
            "attempts",
            "progress_percent",
            "reason_code",
            "reason",
            "size_bytes",
            "sha256",
            "slide_count",
            "patient_count",
            "instance_count",
        )
        read_only_fields = fields


class NewExportSerializer(serializers.Serializer):
    """What is asked for: slide images, or a cohort."""

    project = serializers.UUIDField()
    slide_images = serializers.ListField(
        child=serializers.UUIDField(), required=False, max_length=exports.MAX_SLIDES
    )
    cohort = serializers.UUIDField(required=False)
    with_diagnoses = serializers.BooleanField(required=False, default=False)


class ExportProjectViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet
):
    """The projects of one's departments."""

    read_scope = Scope.EXPORTS_READ
    write_scope = Scope.EXPORTS_WRITE
    parser_classes = [JSONParser]
    serializer_class = ExportProjectSerializer
    ordering_fields = ("name", "created_at")
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[ExportProject]:
        return ExportProject.objects.visible_to(self.request.user).select_related("department")

    def create(self, request: Request) -> Response:
        """Open a project with a key of its own."""
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        project = export_projects.export_project_open(user=request.user, **data.validated_data)
        return Response(self.get_serializer(project).data, status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=ExportProjectSerializer)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        """Close the project: nothing more is exported under its key."""
        project = export_projects.export_project_close(user=request.user, project=self.get_object())
        return Response(self.get_serializer(project).data)


class ExportViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """De-identified exports of one's departments."""

    read_scope = Scope.EXPORTS_READ
    write_scope = Scope.EXPORTS_WRITE
    parser_classes = [JSONParser]
    serializer_class = ExportSerializer
    ordering_fields = ("created_at", "finished_at")
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[Export]:
        return Export.objects.visible_to(self.request.user).select_related("department")

    @extend_schema(request=NewExportSerializer, responses={201: ExportSerializer})
    def create(self, request: Request) -> Response:
        """Ask for an export; it is made in the background."""
        data = NewExportSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        values = data.validated_data
        if ("cohort" in values) == bool(values.get("slide_images")):
            raise OneSource
        project = ExportProject.objects.visible_to(request.user).filter(pk=values["project"])
        if not project:
            raise UnknownProject
        export = self._request(request.user, project[0], values)
        return Response(self.get_serializer(export).data, status.HTTP_201_CREATED)

    @staticmethod
    def _request(user: Any, project: ExportProject, values: dict[str, Any]) -> Export:
        # Asked for before the slides are looked up: who may not export learns no ids.
        permissions.require(user, "export_deidentified", project.department_id)
        options = {"user": user, "project": project, "with_diagnoses": values["with_diagnoses"]}
        if "cohort" in values:
            return exports.export_request_cohort(
                cohort=get_cohort(user, values["cohort"]), **options
            )
        wanted = set(values["slide_images"])
        images = SlideImage.objects.visible_to(user).filter(pk__in=wanted)
        if len(images) < len(wanted):
            raise UnknownSlideImage
        return exports.export_request(slide_images=images, **options)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Take the file away before its time."""
        exports.export_remove(user=request.user, export=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=ExportItemSerializer(many=True))
    @action(detail=True, methods=["get"], filter_backends=[])
    def items(self, request: Request, pk: str) -> Response:
        """List what became of each slide image."""
        rows = ExportItem.objects.visible_to(request.user).filter(
            export=self.get_object(), slide_image__in=SlideImage.objects.visible_to(request.user)
        )
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(ExportItemSerializer(page, many=True).data)

    @extend_schema(request=None, responses=ExportSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Make a failed or expired export again."""
        export = exports.export_retry(user=request.user, export=self.get_object())
        return Response(self.get_serializer(export).data)

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    @action(detail=True, methods=["get"], filter_backends=[])
    def download(self, request: Request, pk: str) -> DiskResponse:
        """Fetch the archive, while it is ready and all of it is open to the caller."""
        export = self.get_object()
        return DiskResponse(
            exports.export_fetch(user=request.user, export=export),
            filename=f"export-{export.pk}.zip",
            content_type="application/zip",
            headers={"Cache-Control": "no-store"},
        )
