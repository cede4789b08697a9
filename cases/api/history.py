"""The history of a case in API v1."""

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from cases.history_selectors import history_of_case
from cases.models import Case, ClinicalChange
from cases.services.audit import Action, access_event_record


@extend_schema_field({"type": "object", "additionalProperties": True})
class _Columns(serializers.JSONField):
    """Columns of a row by name."""


class ClinicalChangeSerializer(serializers.ModelSerializer):
    user = serializers.CharField(source="user.username", read_only=True, allow_null=True)
    before = _Columns(read_only=True)
    after = _Columns(read_only=True)

    class Meta:
        model = ClinicalChange
        fields = ("id", "at", "operation", "object_type", "object_id", "user", "before", "after")
        read_only_fields = fields


class CaseHistoryMixin:
    """Adds `history/` to the routes of a case."""

    @extend_schema(responses=ClinicalChangeSerializer(many=True), filters=False)
    @action(
        detail=True,
        methods=["get"],
        url_path="history",
        url_name="history",
        filter_backends=[],
        serializer_class=ClinicalChangeSerializer,
    )
    def history(self, request: Request, pk: str) -> Response:
        """What was changed or removed of the case, its parts and its patient, newest first."""
        case = Case.objects.visible_to(request.user).get_visible_or_404(request.user, pk=pk)
        page = self.paginate_queryset(history_of_case(request.user, case))
        access_event_record(
            user=request.user,
            action=Action.VIEW,
            department_id=case.department_id,
            patient_id=case.patient_id,
            target=case,
            detail={"page": "history"},
        )
        return self.get_paginated_response(ClinicalChangeSerializer(page, many=True).data)
