"""API v1 of departments, patients, cases, glass slides, slide images and reports."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import exceptions, mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from cases import identity, selectors
from cases.api import filters, serializers
from cases.api.audited import AuditedReadViewSet
from cases.api.fields import department_named
from cases.api.history import CaseHistoryMixin
from cases.api.merges import PatientMergeActions
from cases.models import ApiToken, Case, Department, Patient, Report, Slide, SlideImage
from cases.services.cases import case_upsert, patient_change
from cases.services.reports import report_upsert

Scope = ApiToken.Scope

_BY_ACCESSION = [
    OpenApiParameter("accession_number", str, OpenApiParameter.PATH),
    OpenApiParameter("department", str, required=True, description="Code of one's department"),
    OpenApiParameter(
        "issuer", str, description="Issuer of the accession number; default: the department's"
    ),
]


class ClinicalView:
    """What all clinical routes share: the scopes that a token needs, and JSON bodies."""

    read_scope = Scope.CASES_READ
    write_scope = Scope.CASES_WRITE
    parser_classes = [JSONParser]


class DepartmentViewSet(
    ClinicalView,
    mixins.RetrieveModelMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet,
):
    """The departments of which the caller is a member."""

    serializer_class = serializers.DepartmentSerializer
    lookup_field = "code"
    lookup_value_regex = "[-a-zA-Z0-9_]+"
    filterset_fields = ()
    ordering_fields = ("name", "code")

    def get_queryset(self) -> QuerySet[Department]:
        return Department.objects.visible_to(self.request.user)


class PatientViewSet(ClinicalView, PatientMergeActions, AuditedReadViewSet):
    """Patients. They come with their cases; here they are read, and corrected (PATCH)."""

    serializer_class = serializers.PatientSerializer
    filterset_class = filters.PatientFilters
    ordering_fields = ("family_name", "mrn", "created_at", "updated_at")

    def get_queryset(self) -> QuerySet[Patient]:
        return Patient.objects.visible_to(self.request.user).select_related("department")

    def subject(self, row: Patient) -> tuple[Any, int]:
        return row.pk, row.department_id

    @extend_schema(request=serializers.PatientSerializer(partial=True))
    def partial_update(self, request: Request, pk: str) -> Response:
        patient = self.get_object()
        serializer = self.get_serializer(patient, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        patient = patient_change(user=request.user, patient=patient, data=serializer.validated_data)
        return Response(self.get_serializer(patient).data)


class CaseViewSet(CaseHistoryMixin, ClinicalView, AuditedReadViewSet):
    """Cases. Writing one is always an upsert by accession number."""

    filterset_class = filters.CaseFilters
    ordering_fields = ("received_on", "accession_number", "created_at", "updated_at")

    def get_queryset(self) -> QuerySet[Case]:
        return Case.objects.visible_to(self.request.user).select_related(
            "patient__department", "department"
        )

    def get_serializer_class(self) -> type:
        if self.action == "list":
            return serializers.CaseListSerializer
        return serializers.CaseSerializer

    def get_object(self) -> Case:
        return selectors.case_detail(self.request.user, self.kwargs["pk"])

    def subject(self, row: Case) -> tuple[Any, int]:
        return row.patient_id, row.department_id

    @extend_schema(
        request=serializers.NewCaseSerializer,
        responses={
            200: OpenApiResponse(serializers.CaseSerializer, "Known, brought up to date"),
            201: OpenApiResponse(serializers.CaseSerializer, "New"),
        },
    )
    def create(self, request: Request) -> Response:
        """Make the case of this accession number, or bring it up to date."""
        data = serializers.NewCaseSerializer(
            data=request.data, context=self.get_serializer_context()
        )
        data.is_valid(raise_exception=True)
        fields = dict(data.validated_data)
        return self._upsert(fields.pop("department"), fields)

    @extend_schema(methods=["GET"], filters=False, parameters=_BY_ACCESSION)
    @extend_schema(
        methods=["PUT"],
        parameters=_BY_ACCESSION,
        request=serializers.CaseWriteSerializer,
        responses={
            200: OpenApiResponse(serializers.CaseSerializer, "Known, brought up to date"),
            201: OpenApiResponse(serializers.CaseSerializer, "New"),
        },
    )
    # An accession number may hold a slash (S26/00123).
    @action(
        detail=False,
        methods=["get", "put"],
        url_path="by-accession/(?P<accession_number>.+)",
        url_name="by-accession",
        pagination_class=None,
        filter_backends=[],
    )
    def by_accession(self, request: Request, accession_number: str) -> Response:
        """Read the case of this accession number, or make it or bring it up to date."""
        department = department_named(request.user, request.query_params.get("department", ""))
        issuer = request.query_params.get("issuer", "") or department.accession_issuer
        if "\x00" in issuer + accession_number:
            raise exceptions.ValidationError({"issuer": ["Null characters are not allowed."]})
        if request.method == "GET":
            return self._found_by_accession(department, issuer, accession_number)
        keys = {
            "department": department.code,
            "accession_number": accession_number,
            "accession_issuer": issuer,
        }
        data = serializers.NewCaseSerializer(
            data={**_object(request), **keys}, context=self.get_serializer_context()
        )
        data.is_valid(raise_exception=True)
        return self._upsert(department, dict(data.validated_data))

    def _found_by_accession(self, department: Department, issuer: str, number: str) -> Response:
        known = identity.plain_only(self.request.user, department.cases.all())
        case = known.get_visible_or_404(
            self.request.user, accession_issuer=issuer, accession_number=number
        )
        self.kwargs["pk"] = case.pk
        return self.retrieve(self.request)

    def _upsert(self, department: Department, fields: dict[str, Any]) -> Response:
        case, created = case_upsert(user=self.request.user, department=department, data=fields)
        case = selectors.case_detail(self.request.user, case.pk)
        return Response(
            self.get_serializer(case).data,
            status=status.HTTP_201_CREATED if created else status.HTTP_200_OK,
        )


def _object(request: Request) -> dict[str, Any]:
    """Return the body, or nothing of it where it is no JSON object."""
    return request.data if isinstance(request.data, dict) else {}


class SlideViewSet(ClinicalView, AuditedReadViewSet):
    """Glass slides. They come with their case."""

    serializer_class = serializers.SlideSerializer
    filterset_class = filters.SlideFilters
    ordering_fields = ("label", "stain", "created_at", "updated_at")

    def get_queryset(self) -> QuerySet[Slide]:
        return selectors.slides_with_images(self.request.user).select_related("case__department")

    def subject(self, row: Slide) -> tuple[Any, int]:
        return row.case.patient_id, row.case.department_id


class SlideImageViewSet(ClinicalView, AuditedReadViewSet):
    """Scans of glass slides: what is known of their pixels, not the pixels."""

    serializer_class = serializers.SlideImageSerializer
    filterset_class = filters.SlideImageFilters
    ordering_fields = ("created_at", "updated_at", "scanned_at", "size_bytes")

    def get_queryset(self) -> QuerySet[SlideImage]:
        return SlideImage.objects.visible_to(self.request.user).select_related(
            "department", "slide__case"
        )

    def subject(self, row: SlideImage) -> tuple[Any, int]:
        return row.slide.case.patient_id, row.department_id


class ReportViewSet(ClinicalView, AuditedReadViewSet):
    """Reports, every version. A change is a new version; none is ever edited."""

    serializer_class = serializers.ReportSerializer
    filterset_class = filters.ReportFilters
    ordering_fields = ("created_at", "updated_at", "signed_at", "version")

    def get_queryset(self) -> QuerySet[Report]:
        return Report.objects.visible_to(self.request.user).select_related("case__department")

    def subject(self, row: Report) -> tuple[Any, int]:
        return row.case.patient_id, row.case.department_id

    @extend_schema(
        request=serializers.ReportWriteSerializer,
        responses={
            200: OpenApiResponse(serializers.ReportSerializer, "This version is on record already"),
            201: OpenApiResponse(serializers.ReportSerializer, "A new version"),
        },
    )
    def create(self, request: Request) -> Response:
        """Save a new version of the report of a case."""
        data = serializers.ReportWriteSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        fields = dict(data.validated_data)
        case = Case.objects.all().get_visible_or_404(request.user, pk=fields.pop("case"))
        # A token is a machine: its owner did not write the report.
        author = request.user if request.auth is None else None
        report, created = report_upsert(user=request.user, case=case, author=author, **fields)
        return Response(
            self.get_serializer(report).data,
            status=status.HTTP_201_CREATED if created else status.HTTP_200_OK,
        )
