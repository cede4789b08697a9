"""API v1 of the regions and measurements on a scan."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from cases.api.audited import UUID_PATTERN
from cases.models import ApiToken, SlideImage, SlideRegion
from cases.services import regions
from cases.services.looks import slide_view_record
from cases.wsi.outlines import POINTS_MOST


class _PointsField(serializers.ListField):
    child = serializers.ListField(
        child=serializers.FloatField(min_value=0, max_value=10_000_000), min_length=2, max_length=2
    )


class RegionSerializer(serializers.ModelSerializer):
    """An outline or a line. Points are level-0 pixels; a ring closes itself."""

    points = _PointsField(read_only=True)
    author = serializers.CharField(source="author.username", read_only=True)
    is_mine = serializers.SerializerMethodField()
    length_um = serializers.FloatField(read_only=True)
    area_um2 = serializers.FloatField(read_only=True, allow_null=True)

    class Meta:
        model = SlideRegion
        fields = (
            "id", "kind", "points", "name", "note", "author", "is_mine", "length_um", "area_um2",
            "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_is_mine(self, region: SlideRegion) -> bool:
        return region.author_id == self.context["request"].user.pk


_TEXTS: dict[str, Any] = {"required": False, "allow_blank": True}


class RegionNewSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(SlideRegion.Kind.choices)
    points = _PointsField(min_length=2, max_length=POINTS_MOST)
    name = serializers.CharField(max_length=120, **_TEXTS)
    note = serializers.CharField(max_length=2000, **_TEXTS)


class RegionChangeSerializer(serializers.Serializer):
    points = _PointsField(min_length=2, max_length=POINTS_MOST, required=False)
    name = serializers.CharField(max_length=120, **_TEXTS)
    note = serializers.CharField(max_length=2000, **_TEXTS)
    updated_at = serializers.DateTimeField(
        required=False, help_text="As last read: refused with 409 if it was changed since"
    )


class SlideRegionViewSet(RetrieveModelMixin, ListModelMixin, viewsets.GenericViewSet):
    """Regions and measurements on a scan, of everybody who drew there."""

    read_scope = ApiToken.Scope.CASES_READ
    write_scope = ApiToken.Scope.CASES_WRITE
    parser_classes = [JSONParser]
    lookup_value_regex = UUID_PATTERN
    serializer_class = RegionSerializer
    filter_backends = ()

    def _slide_image(self) -> SlideImage:
        rows = SlideImage.objects.select_related("slide__case")
        return rows.get_visible_or_404(self.request.user, pk=self.kwargs["slide_image_pk"])

    def get_queryset(self) -> QuerySet[SlideRegion]:
        return (
            SlideRegion.objects.readable_by(self.request.user)
            .filter(slide_image=self._slide_image())
            .select_related("author", "slide_image__slide__case")
        )

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        slide_view_record(user=request.user, slide_image=self._slide_image())
        return super().list(request, *args, **kwargs)

    @extend_schema(request=RegionNewSerializer, responses={201: RegionSerializer})
    def create(self, request: Request, slide_image_pk: str) -> Response:
        """Keep an outline or a line."""
        slide_image = self._slide_image()
        data = RegionNewSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        region = regions.region_create(
            user=request.user, slide_image=slide_image, **data.validated_data
        )
        return Response(self.get_serializer(region).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=RegionChangeSerializer, responses=RegionSerializer)
    def partial_update(self, request: Request, slide_image_pk: str, pk: str) -> Response:
        """Change one's own region."""
        region = self.get_object()
        data = RegionChangeSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        told = dict(data.validated_data)
        region = regions.region_change(
            user=request.user, region=region, known=told.pop("updated_at", None), data=told
        )
        return Response(self.get_serializer(region).data)

    def destroy(self, request: Request, slide_image_pk: str, pk: str) -> Response:
        """Remove one's own region."""
        regions.region_remove(user=request.user, region=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)
