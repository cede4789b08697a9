"""A person settles an unmatched slide: says whose it is, or discards it with a reason."""

import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_q.tasks import async_task

from cases import permissions
from cases.errors import Conflict
from cases.models import Department, SlideImage, UploadItem
from cases.patient_numbers import row_of_number
from cases.services import intake, matching, store
from cases.services.audit import Action, access_event_record
from cases.services.locks import department_lock
from cases.services.uploads import UploadRefused, clean_form
from cases.wsi.delivery import FoundSlide

State = UploadItem.State
THUMBNAIL_TASK = "cases.tasks.make_thumbnail_task"
# What a person may state about a waiting slide, besides its mpp.
FIELDS = (
    "accession_number",
    "mrn",
    "family_name",
    "given_name",
    "birth_date",
    "sex",
    "organ",
    "stain",
    "slide_label",
)


class NotWaiting(Conflict):
    """Somebody settled it already."""

    code = "not_waiting"
    message = _("This slide does not wait any more: it was matched or discarded.")


class MustConfirm(Conflict):
    """The files name another patient than the one chosen; a person must say that they looked."""

    code = "confirm_patient"


def item_statement(item: UploadItem) -> matching.Statement:
    """Return what the files and the form of a waiting item say."""
    found = FoundSlide.from_json(item.facts)
    return matching.state(found, item.upload, item.department)


def _locked_item(item: UploadItem, user: Any) -> tuple[UploadItem, Department]:
    permissions.require(user, "reconcile", item.department_id)
    department = department_lock(item.department_id)
    locked = (
        UploadItem.objects.select_for_update(of=("self",))
        .select_related("upload", "department")
        .get(pk=item.pk)
    )
    if locked.state != State.UNMATCHED:
        raise NotWaiting
    return locked, department


@transaction.atomic
def item_reconcile(
    *,
    item: UploadItem,
    user: Any,
    confirm_patient: bool = False,
    **values: Any,
) -> UploadItem:
    """Match a waiting slide by what a person says: accession number, MRN, mpp and the rest.

    Raises MustConfirm while the files name another patient than the chosen one and
    confirm_patient is not set; Conflict with the reason's code while something is missing.
    """
    item, department = _locked_item(item, user)
    found = FoundSlide.from_json(item.facts)
    said = _settled(item, department, clean_form(values), confirm_patient)
    verdict = intake.judge(found, said, department, ignore=item.pk)
    waiting_in = store.unmatched_folder(item.pk)
    if verdict.state in {State.UNMATCHED, State.REFUSED}:
        raise Conflict(verdict.reason, code=verdict.code)
    item.state, item.reason_code, item.reason = verdict.state, verdict.code, verdict.reason
    item.slide_image = verdict.slide_image
    if verdict.state == State.ACCEPTED:
        item.slide_image = _accept(item, found, said, verdict, waiting_in, user)
    _resolve(item, user, waiting_in, {"confirmed": confirm_patient})
    return item


def _accept(
    item: UploadItem,
    found: FoundSlide,
    said: matching.Statement,
    verdict: intake.Verdict,
    waiting_in: Path,
    user: Any,
) -> SlideImage:
    """Put the waiting files into the archive and write the rows."""
    home = None
    if not verdict.extends:
        home = store.slide_folder(uuid.uuid4())
        store.place(waiting_in, home, store.layout(found))
    try:
        image = intake.accept(
            found=found,
            said=said,
            verdict=verdict,
            folder=waiting_in,
            home=home,
            upload=item.upload,
            user=user,
        )
    except BaseException:
        if home is not None:
            store.remove(home)
        raise
    async_task(THUMBNAIL_TASK, str(image.pk))
    return image


def _settled(
    item: UploadItem, department: Department, values: dict[str, Any], confirmed: bool
) -> matching.Statement:
    """Return the statement that the person stands for, or raise what must be settled first."""
    file_says = item_statement(item)
    if file_says.mpp_source == SlideImage.MppSource.FILE or values["mpp"] is None:
        values.pop("mpp")
    said = matching.overridden(file_says, **values)
    case = matching.find_case(said, department)
    patient = case.patient if case else matching.find_patient(said, department)
    if patient is None:
        return said
    patient = row_of_number(patient, said.mrn, said.mrn_issuer)
    if values.get("mrn") and values["mrn"] != patient.mrn:
        raise Conflict(
            "The case of this accession number belongs to a patient with another MRN.",
            code=matching.PATIENT_MISMATCH,
        )
    different = matching.differences(file_says, patient)
    if different and not confirmed:
        raise MustConfirm(
            f"The file or the form names another patient: {', '.join(different)} differs. "
            "Confirm that you have looked at the slide and that the chosen patient is right."
        )
    # From here the record counts; what the file says otherwise must not fill its gaps.
    silent = {"family_name": "", "given_name": "", "birth_date": None, "sex": ""}
    return replace(said, mrn=patient.mrn, mrn_issuer=patient.mrn_issuer, **silent)


def _resolve(
    item: UploadItem,
    user: Any,
    waiting_in: Path,
    detail: dict[str, Any],
) -> None:
    item.resolved_by, item.resolved_at = user, timezone.now()
    item.save()
    case = item.slide_image.slide.case if item.slide_image else None
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=item.department_id,
        patient_id=case.patient_id if case else None,
        target=item,
        detail={"state": item.state, **detail},
    )
    transaction.on_commit(partial(store.remove, waiting_in))


@transaction.atomic
def item_discard(*, item: UploadItem, user: Any, reason: str) -> UploadItem:
    """Throw a waiting slide away, with the reason; its files go."""
    if not reason.strip():
        raise UploadRefused("Say why the slide is discarded.", code="reason_missing")
    item, _department = _locked_item(item, user)
    item.state, item.reason_code, item.reason = State.DISCARDED, "discarded", reason.strip()[:500]
    _resolve(item, user, store.unmatched_folder(item.pk), {})
    return item
