"""API v1 of consults: what was asked of the caller, and what the caller's departments asked."""

from typing import Any

import django_filters as filters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from cases import permissions
from cases.api.audited import AuditedReadViewSet
from cases.api.views import ClinicalView
from cases.models import Case, Consult, ConsultOpinion

OF_ME, BY_ME, BY_US = "of-me", "by-me", "by-us"


class OpinionSerializer(serializers.ModelSerializer):
    author = serializers.CharField(source="author.username")

    class Meta:
        model = ConsultOpinion
        fields = ("author", "text", "created_at")


class ConsultSerializer(serializers.ModelSerializer):
    """A case that is shown to a colleague or department until a date, with the question."""

    case = serializers.UUIDField(source="case_id")
    department = serializers.CharField(source="department.code")
    asked_by = serializers.CharField(source="asked_by.username")
    to_user = serializers.CharField(source="to_user.username", default=None, allow_null=True)
    to_department = serializers.CharField(
        source="to_department.code", default=None, allow_null=True
    )
    is_open = serializers.BooleanField()
    opinions = serializers.SerializerMethodField()

    class Meta:
        model = Consult
        fields = (
            "id",
            "case",
            "department",
            "asked_by",
            "to_user",
            "to_department",
            "question",
            "until",
            "is_open",
            "ended_at",
            "answered_at",
            "opinions",
            "created_at",
        )

    @extend_schema_field(OpinionSerializer(many=True))
    def get_opinions(self, consult: Consult) -> Any:
        """Return the opinions, oldest first."""
        return OpinionSerializer(consult.opinions.all(), many=True).data


class ConsultFilters(filters.FilterSet):
    asked = filters.ChoiceFilter(
        method="by_side",
        choices=[
            (OF_ME, "of the caller or a department of theirs"),
            (BY_ME, "by the caller"),
            (BY_US, "about cases of the caller's departments"),
        ],
        label="Who asked whom",
    )
    open = filters.BooleanFilter(method="by_open", label="Only those that open their case, or not")
    answered = filters.BooleanFilter(
        field_name="answered_at", lookup_expr="isnull", exclude=True, label="Only answered, or not"
    )
    case = filters.UUIDFilter(field_name="case_id", label="Case id")

    class Meta:
        model = Consult
        fields = ()

    def by_side(self, queryset: QuerySet[Consult], _name: str, value: str) -> QuerySet[Consult]:
        user = self.request.user
        if value == OF_ME:
            return queryset.filter(pk__in=Consult.objects.asked_of(user).values("pk"))
        if value == BY_ME:
            return queryset.filter(asked_by=user)
        return queryset.filter(pk__in=Consult.objects.asked_by_department_of(user).values("pk"))

    def by_open(self, queryset: QuerySet[Consult], _name: str, value: bool) -> QuerySet[Consult]:
        return queryset.open() if value else queryset.over()


class ConsultViewSet(ClinicalView, AuditedReadViewSet):
    """Consults, to be read; they are asked and answered by people, on the page of the case.

    What was asked of the caller is there while it is open. A token sees what its departments
    asked: nothing is open to a token that is not its departments' own.
    """

    serializer_class = ConsultSerializer
    filterset_class = ConsultFilters
    ordering_fields = ("created_at", "until")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse whoever may know no patient: questions and opinions speak of people."""
        super().initial(request, *args, **kwargs)
        if not permissions.departments_with(request.user, "view_identity"):
            raise PermissionDenied

    def get_queryset(self) -> QuerySet[Consult]:
        user = self.request.user
        return (
            Consult.objects.visible_to(user)
            .filter(case__in=Case.objects.readable_by(user))
            .select_related("case", "department", "asked_by", "to_user", "to_department")
            .prefetch_related("opinions__author")
        )

    def subject(self, row: Consult) -> tuple[Any, int]:
        return row.case.patient_id, row.case.department_id
