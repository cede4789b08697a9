"""Reads of uploads and of the slides that wait to be matched: always for a user."""

from typing import Any

from django.db.models import Aggregate, Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from cases import permissions
from cases.models import Case, Department, SlideUpload, UploadFile, UploadItem
from cases.services import matching
from cases.services.reconcile import item_statement

ItemState = UploadItem.State


def of_upload(rows: QuerySet, aggregate: Aggregate) -> Coalesce:
    """Return a number about each upload's rows, as a subquery: 0 where it has none.

    A join would aggregate the files and items of every upload before a page is cut out.
    """
    grouped = rows.filter(upload=OuterRef("pk")).order_by().values("upload")
    return Coalesce(Subquery(grouped.annotate(_n=aggregate).values("_n")), 0)


def _counted(state: str) -> Coalesce:
    return of_upload(UploadItem.objects.filter(state=state), Count("pk"))


def uploads_listed(user: Any, *, state: str = "") -> QuerySet[SlideUpload]:
    """Return the uploads of the user's departments, newest first, with what came of them."""
    rows = SlideUpload.objects.visible_to(user).select_related(
        "department", "uploaded_by", "dicom_peer"
    )
    if state:
        rows = rows.filter(state=state)
    return rows.annotate(
        files_total=of_upload(UploadFile.objects.all(), Count("pk")),
        accepted=_counted(ItemState.ACCEPTED),
        duplicate=_counted(ItemState.DUPLICATE),
        unmatched=_counted(ItemState.UNMATCHED),
        incomplete=_counted(ItemState.INCOMPLETE),
        refused=_counted(ItemState.REFUSED),
    ).order_by("-created_at", "pk")


def upload_detail(user: Any, pk: Any) -> SlideUpload:
    """Return the upload with its items and sums, or raise Http404."""
    rows = (
        SlideUpload.objects.select_related("department", "uploaded_by", "dicom_peer")
        .prefetch_related("items__slide_image__slide__case")
        .annotate(
            files_total=Count("files"),
            files_complete=Count("files", filter=Q(files__offset_bytes=F("files__size_bytes"))),
            bytes_total=Sum("files__size_bytes", default=0),
            bytes_received=Sum("files__offset_bytes", default=0),
        )
    )
    return rows.get_visible_or_404(user, pk=pk)


def uploads_unfinished(user: Any) -> QuerySet[SlideUpload]:
    """Return the user's own uploads that still receive."""
    mine = uploads_listed(user, state=SlideUpload.State.RECEIVING)
    return mine.filter(uploaded_by=user)


def departments_to_upload(user: Any) -> QuerySet[Department]:
    """Return the departments for which the user may upload."""
    return Department.objects.filter(pk__in=permissions.departments_with(user, "upload"))


def unmatched_listed(
    user: Any, *, waiting: bool = True, department: Any = None, reason: str = "", text: str = ""
) -> QuerySet[UploadItem]:
    """Return the slides that wait to be matched, or those that a person settled."""
    rows = UploadItem.objects.visible_to(user).select_related(
        "department", "upload", "upload__uploaded_by", "resolved_by", "slide_image__slide__case"
    )
    rows = (
        rows.filter(state=ItemState.UNMATCHED)
        if waiting
        else rows.exclude(state=ItemState.UNMATCHED).filter(resolved_at__isnull=False)
    )
    if department:
        rows = rows.filter(department=department)
    if reason:
        rows = rows.filter(reason_code=reason)
    if text:
        rows = rows.filter(
            Q(name__icontains=text)
            | Q(upload__accession_number__iexact=text)
            | Q(facts__accession_number__iexact=text)
        )
    return rows.order_by("-created_at", "pk")


def item_on_record(item: UploadItem) -> tuple[matching.Statement, Case | None, list[str]]:
    """Return what a waiting item says, the case it may mean, and how the patients differ."""
    said = item_statement(item)
    case = matching.find_case(said, item.department)
    patient = case.patient if case else matching.find_patient(said, item.department)
    return said, case, matching.differences(said, patient) if patient else []
