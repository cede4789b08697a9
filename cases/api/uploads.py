"""API v1 of uploads: announce files, send their bytes, finish, follow the processing."""

from typing import Any

from django.db.models import Count, QuerySet, Sum
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from cases.api.audited import UUID_PATTERN
from cases.api.fields import DepartmentCodeField
from cases.intake_selectors import of_upload
from cases.models import ApiToken, SlideUpload, UploadFile, UploadItem
from cases.services import receive, uploads

Scope = ApiToken.Scope


class UploadFileSerializer(serializers.ModelSerializer):
    """One file. `tus_url` takes its bytes in pieces (tus 1.0), `url` takes a small one by PUT."""

    url = serializers.SerializerMethodField()
    tus_url = serializers.SerializerMethodField()

    class Meta:
        model = UploadFile
        fields = ("id", "name", "size_bytes", "offset_bytes", "sha256", "url", "tus_url")
        read_only_fields = ("offset_bytes",)

    @extend_schema_field(OpenApiTypes.STR)
    def get_url(self, row: UploadFile) -> str:
        return reverse("upload-files-detail", kwargs={"upload_pk": row.upload_id, "pk": row.pk})

    @extend_schema_field(OpenApiTypes.STR)
    def get_tus_url(self, row: UploadFile) -> str:
        return reverse("tus-detail", kwargs={"pk": row.pk})


class UploadItemSerializer(serializers.ModelSerializer):
    """What became of one slide of the upload; `reason_code` is stable, see docs/intake.md."""

    case = serializers.UUIDField(source="slide_image.slide.case_id", default=None, read_only=True)

    class Meta:
        model = UploadItem
        fields = ("id", "name", "state", "reason_code", "reason", "slide_image", "case")


class UploadSerializer(serializers.ModelSerializer):
    """An upload and its progress. Patient data of the form are written, never read back."""

    department = DepartmentCodeField()
    files_total = serializers.IntegerField(read_only=True, default=0)
    bytes_total = serializers.IntegerField(read_only=True, default=0)
    bytes_received = serializers.IntegerField(read_only=True, default=0)
    progress_percent = serializers.IntegerField(read_only=True)

    class Meta:
        model = SlideUpload
        fields = (
            "id",
            "department",
            "state",
            "source",
            "accession_number",
            "slide_label",
            "created_at",
            "finished_at",
            "attempts",
            "progress_step",
            "progress_done",
            "progress_total",
            "progress_percent",
            "reason_code",
            "reason",
            "files_total",
            "bytes_total",
            "bytes_received",
        )
        read_only_fields = fields


class UploadDetailSerializer(UploadSerializer):
    """An upload with what became of each slide found in it."""

    items = UploadItemSerializer(many=True, read_only=True)

    class Meta(UploadSerializer.Meta):
        fields = (*UploadSerializer.Meta.fields, "items")
        read_only_fields = fields


class NewFileSerializer(serializers.Serializer):
    """A file that is to come; a SHA-256, where given, is checked before the file is used."""

    name = serializers.CharField(max_length=400)
    size_bytes = serializers.IntegerField(min_value=0)
    sha256 = serializers.CharField(max_length=64, required=False, allow_blank=True, default="")


class NewUploadSerializer(serializers.ModelSerializer):
    """What a sender announces; the form's fields count where the files themselves are silent."""

    department = DepartmentCodeField()
    files = NewFileSerializer(many=True, required=False)

    class Meta:
        model = SlideUpload
        fields = ("department", "files", *uploads.FORM_FIELDS)


class CreatedUploadSerializer(UploadSerializer):
    """The new upload with its files and where to send them."""

    files = UploadFileSerializer(many=True, read_only=True)

    class Meta(UploadSerializer.Meta):
        fields = (*UploadSerializer.Meta.fields, "files")
        read_only_fields = fields


class UploadViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet):
    """Uploads of the caller's departments."""

    read_scope = write_scope = Scope.UPLOADS_WRITE
    parser_classes = [JSONParser]
    lookup_value_regex = UUID_PATTERN
    filterset_fields = ("state", "source")
    ordering_fields = ("created_at", "finished_at")
    serializer_class = UploadSerializer

    def get_queryset(self) -> QuerySet[SlideUpload]:
        rows = SlideUpload.objects.visible_to(self.request.user).select_related("department")
        if self.action == "retrieve":
            rows = rows.prefetch_related("items__slide_image__slide")
        files = UploadFile.objects.all()
        return rows.annotate(
            files_total=of_upload(files, Count("pk")),
            bytes_total=of_upload(files, Sum("size_bytes")),
            bytes_received=of_upload(files, Sum("offset_bytes")),
        )

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        return UploadDetailSerializer if self.action == "retrieve" else UploadSerializer

    @extend_schema(request=NewUploadSerializer, responses={201: CreatedUploadSerializer})
    def create(self, request: Request) -> Response:
        """Announce an upload and, as far as known, its files."""
        serializer = NewUploadSerializer(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        data = dict(serializer.validated_data)
        files = [(f["name"], f["size_bytes"], f["sha256"]) for f in data.pop("files", [])]
        is_page = request.auth is None
        upload = uploads.upload_create(
            user=request.user,
            files=files,
            source=SlideUpload.Source.PAGE if is_page else SlideUpload.Source.API,
            **data,
        )
        counted = self.get_queryset().get(pk=upload.pk)
        body = CreatedUploadSerializer(counted, context={"request": request}).data
        return Response(body, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Give the upload up; only while it receives, or after it failed."""
        uploads.upload_cancel(upload=self.get_object(), user=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=UploadSerializer)
    @action(detail=True, methods=["post"])
    def finish(self, request: Request, pk: str) -> Response:
        """Say that all bytes are sent: the processing starts. Idempotent."""
        uploads.upload_finish(upload=self.get_object(), user=request.user)
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=None, responses=UploadSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Process a failed upload again."""
        uploads.upload_retry(upload=self.get_object(), user=request.user)
        return Response(self.get_serializer(self.get_object()).data)


class UploadFileViewSet(mixins.ListModelMixin, viewsets.GenericViewSet):
    """The files of an upload."""

    read_scope = write_scope = Scope.UPLOADS_WRITE
    parser_classes = [JSONParser]
    # A folder of instances is thousands of requests; their bytes are the limit.
    throttle_classes = []
    lookup_value_regex = UUID_PATTERN
    serializer_class = UploadFileSerializer
    filterset_fields = ()
    ordering_fields = ("created_at", "name")
    queryset = UploadFile.objects.none()  # what the schema is made from

    def get_queryset(self) -> QuerySet[UploadFile]:
        return (
            UploadFile.objects.visible_to(self.request.user)
            .filter(upload=self.kwargs.get("upload_pk"))
            .select_related("upload")
        )

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the files with how much of each has arrived."""
        SlideUpload.objects.get_visible_or_404(request.user, pk=kwargs["upload_pk"])
        return super().list(request, *args, **kwargs)

    @extend_schema(
        request={"application/octet-stream": OpenApiTypes.BINARY}, responses=UploadFileSerializer
    )
    def update(self, request: Request, **kwargs: Any) -> Response:
        """Send a whole file at once, as the body; larger ones go in pieces to `tus_url`."""
        upload_file = self.get_object()
        receive.file_replace(upload_file=upload_file, user=request.user, read=request.read)
        return Response(self.get_serializer(upload_file).data)
