"""Reads that leave a trace: one event per patient that an answer shows."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from cases.services.audit import Action, access_event_record, access_events_listed

UUID_PATTERN = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class AuditedReadViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet):
    """List and detail of clinical rows. Subclasses say in `subject(row)` whose rows they are."""

    lookup_value_regex = UUID_PATTERN

    def subject(self, row: Any) -> tuple[Any, int]:
        """Return (patient id, department id) of a row."""
        raise TypeError(f"{type(self).__name__} does not say whose rows it shows")

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        queryset: QuerySet = self.filter_queryset(self.get_queryset())
        page = self.paginate_queryset(queryset)
        access_events_listed(
            user=request.user,
            object_type=queryset.model._meta.model_name,
            subjects=(self.subject(row) for row in page),
            detail={"list": True},
        )
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        row = self.get_object()
        patient_id, department_id = self.subject(row)
        access_event_record(
            user=request.user,
            action=Action.VIEW,
            department_id=department_id,
            patient_id=patient_id,
            target=row,
        )
        return Response(self.get_serializer(row).data)
