"""API v1: merging two patients who are one, undoing it, and the HL7 messages that say so."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases import permissions
from cases.api.fields import department_named
from cases.errors import DomainError
from cases.lis import hl7
from cases.lis.adt import message_apply
from cases.models import ApiToken, Department, MergedCase, Patient, PatientMerge
from cases.services.patient_merges import patients_merge, patients_unmerge

HL7 = "application/hl7-v2"
_SCOPE = ApiToken.Scope.PATIENTS_MERGE


class MergedCaseSerializer(serializers.ModelSerializer):
    accession_number = serializers.CharField(source="case.accession_number", read_only=True)

    class Meta:
        model = MergedCase
        fields = ("case", "accession_number", "came_later", "stayed")


class PatientMergeSerializer(serializers.ModelSerializer):
    """One merge, with the cases that it moved or that came later under the merged number."""

    by = serializers.CharField(source="by.username", read_only=True)
    undone_by = serializers.CharField(source="undone_by.username", read_only=True, allow_null=True)
    cases = serializers.SerializerMethodField()

    class Meta:
        model = PatientMerge
        fields = (
            "id",
            "survivor",
            "merged",
            "source",
            "message_id",
            "reason",
            "created_at",
            "by",
            "undone_at",
            "undone_by",
            "undone_reason",
            "cases",
        )

    def get_cases(self, merge: PatientMerge) -> list[dict[str, Any]]:
        rows = merge.cases.select_related("case").order_by("pk")
        return MergedCaseSerializer(rows, many=True).data


class MergeRequestSerializer(serializers.Serializer):
    merged = serializers.UUIDField(help_text="Id of the patient whose number is given up")
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class UnmergeRequestSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=500, required=False, default="", allow_blank=True)


class PatientMergeActions:
    """The acts on a patient; `patients/<id>/` with POST needs a scope of its own."""

    @extend_schema(
        request=MergeRequestSerializer,
        responses={
            200: OpenApiResponse(PatientMergeSerializer, "They are merged already"),
            201: OpenApiResponse(PatientMergeSerializer, "Merged"),
        },
    )
    @action(detail=True, methods=["post"], write_scope=_SCOPE)
    def merge(self, request: Request, pk: str) -> Response:
        """Give all cases of another patient to this one."""
        survivor = self.get_object()  # type: ignore[attr-defined]
        permissions.require(request.user, "merge_patients", survivor.department_id)
        data = MergeRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        merged = Patient.objects.all().get_visible_or_404(
            request.user, pk=data.validated_data["merged"]
        )
        merge, created = patients_merge(
            user=request.user,
            survivor=survivor,
            merged=merged,
            reason=data.validated_data["reason"],
        )
        code = status.HTTP_201_CREATED if created else status.HTTP_200_OK
        return Response(PatientMergeSerializer(merge).data, status=code)

    @extend_schema(request=UnmergeRequestSerializer, responses=PatientMergeSerializer)
    @action(detail=True, methods=["post"], write_scope=_SCOPE)
    def unmerge(self, request: Request, pk: str) -> Response:
        """Undo the merge of this patient into another: its cases and number are its own again."""
        merged = self.get_object()  # type: ignore[attr-defined]
        permissions.require(request.user, "merge_patients", merged.department_id)
        data = UnmergeRequestSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        done = patients_unmerge(
            user=request.user, merged=merged, reason=data.validated_data["reason"]
        )
        return Response(PatientMergeSerializer(done.merge).data)


class MessageTooLong(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "message_too_long"
    default_detail = "An HL7 message has 64 KB at most."


class Hl7Parser(BaseParser):
    """Reads the bytes of one message."""

    media_type = HL7

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> bytes:
        data = stream.read(hl7.SIZE_MOST + 1)
        if len(data) > hl7.SIZE_MOST:
            raise MessageTooLong
        return data


class Hl7View(APIView):
    """HL7 v2 messages over HTTPS: one message a request, answered by its acknowledgement."""

    parser_classes = [Hl7Parser]
    write_scope = _SCOPE

    @extend_schema(
        operation_id="hl7_message",
        parameters=[
            OpenApiParameter("department", str, description="Only there; default: where one may")
        ],
        request={HL7: {"type": "string"}},
        responses={
            (200, HL7): OpenApiResponse({"type": "string"}, "AA: done, or nothing to do"),
            (400, HL7): OpenApiResponse({"type": "string"}, "AR: not understood"),
            (400, "application/problem+json"): OpenApiResponse(
                {"$ref": "#/components/schemas/Problem"}, "Not a department of yours"
            ),
            (409, HL7): OpenApiResponse({"type": "string"}, "AE: contradicts what is on record"),
        },
    )
    def post(self, request: Request) -> HttpResponse:
        """Take an ADT^A40 (merge) or ADT^A37 (undo it)."""
        departments = self._departments(request)
        message = None
        # An empty body does not reach the parser.
        data = request.data if isinstance(request.data, bytes) else b""
        try:
            message = hl7.read(data)
            text = message_apply(user=request.user, message=message, departments=departments)
        except hl7.MessageRefused as error:
            return _answer(message, hl7.REJECTED, str(error), status.HTTP_400_BAD_REQUEST)
        except DomainError as error:
            return _answer(message, hl7.ERROR, error.message, int(error.http_status))
        return _answer(message, hl7.ACCEPTED, text, status.HTTP_200_OK)

    def _departments(self, request: Request) -> list[Department]:
        code = request.query_params.get("department", "")
        if code:
            return [department_named(request.user, code, capability="merge_patients")]
        found = permissions.departments_with(request.user, "merge_patients")
        if not found:
            raise PermissionDenied("Your role does not allow to merge patients.")
        return list(Department.objects.filter(pk__in=found).order_by("pk"))


def _answer(message: hl7.Message | None, code: str, text: str, code_of_http: int) -> HttpResponse:
    body = hl7.acknowledgement(message, code, text)
    return HttpResponse(body, status=code_of_http, content_type=f"{HL7}; charset=utf-8")
