"""API v1 of tumour boards: meetings and the cases on their lists."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.validators import RegexValidator
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from cases import board_selectors, permissions
from cases.api import filters
from cases.api.audited import UUID_PATTERN
from cases.api.cohorts import UnknownSlideImage
from cases.api.fields import DepartmentCodeField
from cases.errors import DomainError
from cases.models import ApiToken, BoardItem, BoardMeeting, Case, SlideImage
from cases.models.boards import PLACE
from cases.services import boards
from cases.services.audit import access_events_listed


class UnknownCase(DomainError):
    """An id names no case that the caller may see."""

    code = "unknown_case"
    message = _("This case does not exist, or you may not see it.")


class BoardSerializer(serializers.ModelSerializer):
    """A meeting; `item_count` counts its list, gaps included."""

    department = DepartmentCodeField()
    item_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = BoardMeeting
        fields = (
            "id",
            "department",
            "title",
            "held_on",
            "note",
            "item_count",
            "created_at",
            "updated_at",
        )


class BoardChangeSerializer(serializers.ModelSerializer):
    class Meta:
        model = BoardMeeting
        fields = ("title", "held_on", "note")


class BoardItemSerializer(serializers.ModelSerializer):
    """A case on the list. Positions that are missing are of cases that the caller may not see."""

    case = serializers.UUIDField(source="case_id")
    slide_image = serializers.UUIDField(source="slide_image.pk", default=None)

    class Meta:
        model = BoardItem
        fields = ("id", "position", "case", "slide_image", "place", "question", "created_at")


_PLACE = {
    "required": False,
    "allow_blank": True,
    "max_length": 48,
    "validators": [RegexValidator(rf"\A(?:{PLACE})?\Z")],
    "help_text": "Where the slide opens: l0=x,y,width,height in level-0 pixels",
}


class BoardItemAddSerializer(serializers.Serializer):
    case = serializers.UUIDField()
    slide_image = serializers.UUIDField(required=False, allow_null=True, default=None)
    place = serializers.CharField(default="", **_PLACE)
    question = serializers.CharField(max_length=1000, required=False, allow_blank=True, default="")


class BoardItemChangeSerializer(serializers.Serializer):
    position = serializers.IntegerField(required=False, min_value=1, max_value=10_000)
    slide_image = serializers.UUIDField(required=False, allow_null=True)
    place = serializers.CharField(**_PLACE)
    question = serializers.CharField(max_length=1000, required=False, allow_blank=True)


class _BoardView:
    read_scope = ApiToken.Scope.CASES_READ
    write_scope = ApiToken.Scope.CASES_WRITE
    parser_classes = [JSONParser]
    lookup_value_regex = UUID_PATTERN


class BoardViewSet(_BoardView, RetrieveModelMixin, ListModelMixin, viewsets.GenericViewSet):
    """Tumour boards of the caller's departments."""

    serializer_class = BoardSerializer
    filterset_class = filters.BoardFilters
    ordering_fields = ("held_on", "title", "created_at", "updated_at")

    def get_queryset(self) -> QuerySet[BoardMeeting]:
        return board_selectors.boards_listed(self.request.user)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        if not permissions.departments_with(request.user, "tumour_board"):
            raise PermissionDenied
        return super().list(request, *args, **kwargs)

    def retrieve(self, request: Request, pk: str) -> Response:
        return self._answer(get_board(request.user, pk))

    def create(self, request: Request) -> Response:
        data = self.get_serializer(data=request.data)
        data.is_valid(raise_exception=True)
        meeting = boards.board_create(user=request.user, **data.validated_data)
        return self._answer(meeting, status.HTTP_201_CREATED)

    @extend_schema(request=BoardChangeSerializer(partial=True))
    def partial_update(self, request: Request, pk: str) -> Response:
        meeting = get_board(request.user, pk)
        data = BoardChangeSerializer(meeting, data=request.data, partial=True)
        data.is_valid(raise_exception=True)
        kept = {"title": meeting.title, "held_on": meeting.held_on, "note": meeting.note}
        fields = {**kept, **data.validated_data}
        return self._answer(boards.board_update(user=request.user, meeting=meeting, **fields))

    def destroy(self, request: Request, pk: str) -> Response:
        boards.board_remove(user=request.user, meeting=get_board(request.user, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _answer(self, meeting: BoardMeeting, code: int = status.HTTP_200_OK) -> Response:
        row = self.get_queryset().get(pk=meeting.pk)
        return Response(BoardSerializer(row, context=self.get_serializer_context()).data, code)


class BoardItemViewSet(_BoardView, ListModelMixin, viewsets.GenericViewSet):
    """The cases on the list of a meeting, in their order."""

    serializer_class = BoardItemSerializer
    filterset_fields = ()
    ordering_fields = ("position",)

    def get_queryset(self) -> QuerySet[BoardItem]:
        # By the id: the meeting itself was looked up, and refused, by `get_board`.
        pk = self.kwargs.get("board_pk")
        return board_selectors.board_items(self.request.user, pk).select_related("meeting")

    def list(self, request: Request, board_pk: str) -> Response:
        get_board(request.user, board_pk)
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        access_events_listed(
            user=request.user,
            object_type="boarditem",
            subjects=((row.case.patient_id, row.case.department_id) for row in page),
            detail={"list": True, "board": board_pk},
        )
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=BoardItemAddSerializer, responses={201: BoardItemSerializer})
    def create(self, request: Request, board_pk: str) -> Response:
        """Put a case at the end of the list."""
        data = BoardItemAddSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        meeting = get_board(request.user, board_pk)
        asked = data.validated_data
        case = Case.objects.visible_to(request.user).filter(pk=asked["case"]).first()
        if case is None:
            raise UnknownCase
        image = self._slide_image(asked["slide_image"])
        if image is not None and image.slide.case_id != case.pk:
            raise boards.SlideOfOtherCase
        added = boards.board_add(
            user=request.user,
            meeting=meeting,
            cases=[case],
            slide_images=[image] if image else [],
            place=asked["place"],
            question=asked["question"],
        )
        if not added:
            raise boards.AlreadyOnBoard
        return self._answer(added[0].pk, status.HTTP_201_CREATED)

    @extend_schema(request=BoardItemChangeSerializer, responses=BoardItemSerializer)
    def partial_update(self, request: Request, board_pk: str, pk: str) -> Response:
        """Change what is asked, where the slide opens, or the place on the list."""
        get_board(request.user, board_pk)
        item = self.get_object()
        data = BoardItemChangeSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        if {"question", "slide_image", "place"} & set(asked):
            image = item.slide_image
            if "slide_image" in asked:
                image = self._slide_image(asked["slide_image"])
            boards.board_item_update(
                user=request.user,
                item=item,
                question=asked.get("question", item.question),
                slide_image=image,
                place=asked.get("place", item.place if image else ""),
            )
        if "position" in asked:
            boards.board_item_move(user=request.user, item=item, position=asked["position"])
        return self._answer(item.pk)

    def destroy(self, request: Request, board_pk: str, pk: str) -> Response:
        get_board(request.user, board_pk)
        boards.board_item_remove(user=request.user, item=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _slide_image(self, pk: Any) -> SlideImage | None:
        if pk is None:
            return None
        rows = SlideImage.objects.visible_to(self.request.user).select_related("slide")
        found: SlideImage | None = rows.filter(pk=pk).first()
        if found is None:
            raise UnknownSlideImage
        return found

    def _answer(self, pk: Any, code: int = status.HTTP_200_OK) -> Response:
        return Response(BoardItemSerializer(self.get_queryset().get(pk=pk)).data, code)


def get_board(user: Any, pk: str) -> BoardMeeting:
    """Return the meeting; 404 where it is hidden or missing, 403 where the role does not allow."""
    meeting: BoardMeeting = BoardMeeting.objects.all().get_visible_or_404(user, pk=pk)
    permissions.require(user, "tumour_board", meeting.department_id)
    return meeting
