"""Takes one examined slide into the archive: one transaction, after its files are in place.

First a verdict from what is on record, then the files, then under the department's lock the
verdict again, and only if it still holds the rows. A crash leaves at worst a folder that no
row knows, which the sweep removes.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from cases import signals
from cases.errors import Conflict
from cases.models import Department, SlideImage, SlideInstance, SlideUpload, UploadItem
from cases.services import arrivals, matching, records, store
from cases.services.audit import Action, access_event_record
from cases.services.deleted_cases import CaseWasDeleted, was_deleted
from cases.services.locks import department_lock
from cases.wsi.delivery import FoundSlide
from cases.wsi.errors import MissingFilesError, NoVolumeError

State = UploadItem.State
ALREADY_HERE = "already_here"
ALREADY_WAITING = "already_waiting"
JOINED = "joined"
LACKS = {
    NoVolumeError.code: "No image of the tissue has come yet; the rest of the series may follow.",
    MissingFilesError.code: "Parts of an image that was split have not come yet.",
}
SOP_INSTANCE_CONFLICT = "sop_instance_conflict"
ROUNDS = 5


@dataclass(frozen=True)
class Verdict:
    """What is to become of a slide; equal verdicts lead to the same rows."""

    state: str
    code: str = ""
    reason: str = ""
    slide_image: SlideImage | None = None  # the one on record, of a duplicate or an extension
    extends: bool = False
    match: matching.Match | None = None

    @property
    def is_of_deleted(self) -> bool:
        """Return whether its case was deleted when its time of keeping was over."""
        return self.code == CaseWasDeleted.code


def judge(
    found: FoundSlide, said: matching.Statement, department: Department, *, ignore: Any = None
) -> Verdict:
    """Return what is to become of the slide, from what this department has on record.

    ignore: the waiting item that is being resolved.
    """
    here = SlideImage.objects.filter(department=department).select_related("slide__case__patient")
    on_record = {
        instance.sop_instance_uid: instance
        for instance in SlideInstance.objects.filter(
            department=department,
            sop_instance_uid__in=[i.sop_instance_uid for i in found.instances],
        )
    }
    for instance in found.instances:
        known = on_record.get(instance.sop_instance_uid)
        if known is not None and known.sha256 != instance.sha256:
            return Verdict(
                State.REFUSED,
                SOP_INSTANCE_CONFLICT,
                "An instance with the same SOP Instance UID and other content is on record.",
            )
    same = here.filter(content_sha256=found.content_sha256).first()
    if same is None and found.instances and len(on_record) == len(found.instances):
        same = here.get(pk=next(iter(on_record.values())).slide_image_id)
    if same is not None:
        return _duplicate(same)
    if found.series_instance_uid:
        series = here.filter(series_instance_uid=found.series_instance_uid).first()
        # A late label or overview finds its tissue on record; other pieces wait for the rest.
        if found.lacks and (series is None or found.lacks != NoVolumeError.code):
            return _incomplete(found, department)
        if series is not None:
            problems = matching.match_known_image(said, series)
            if problems:
                return _unmatched(problems, found, department, ignore)
            return Verdict(State.ACCEPTED, slide_image=series, extends=True)
    match = matching.match(said, department, found.study_instance_uid)
    number = said.accession_issuer, said.accession_number
    if match.case is None and was_deleted(department, *number):
        return Verdict(State.REFUSED, CaseWasDeleted.code, str(CaseWasDeleted.message))
    if not match.problems:
        return Verdict(State.ACCEPTED, match=match)
    return _unmatched(match.problems, found, department, ignore)


def _duplicate(same: SlideImage) -> Verdict:
    return Verdict(
        State.DUPLICATE, ALREADY_HERE, "The same slide is already here.", slide_image=same
    )


def _incomplete(found: FoundSlide, department: Department) -> Verdict:
    """Return that the pieces are to wait, or that the same ones wait already."""
    waiting = pieces_waiting(department.pk, [found.series_instance_uid])
    if waiting.filter(facts__content_sha256=found.content_sha256).exists():
        return Verdict(State.DUPLICATE, ALREADY_WAITING, "The same instances wait already.")
    return Verdict(State.INCOMPLETE, found.lacks, LACKS[found.lacks])


def pieces_waiting(department_id: int, series_instance_uids: list[str]) -> QuerySet[UploadItem]:
    """Return the items that wait for more instances of these series."""
    return UploadItem.objects.filter(
        department=department_id,
        state=State.INCOMPLETE,
        facts__series_instance_uid__in=series_instance_uids,
    )


def _unmatched(
    problems: tuple[matching.Problem, ...], found: FoundSlide, department: Department, ignore: Any
) -> Verdict:
    """Return that the slide is to wait, or that the same bytes wait already."""
    waiting = UploadItem.objects.filter(
        department=department,
        state=State.UNMATCHED,
        facts__content_sha256=found.content_sha256,
    ).exclude(pk=ignore)
    if waiting.exists():
        return Verdict(
            State.DUPLICATE, ALREADY_WAITING, "The same slide already waits to be matched."
        )
    return Verdict(
        State.UNMATCHED, problems[0].code, " ".join(problem.reason for problem in problems)
    )


def intake_take(
    *,
    found: FoundSlide,
    upload: SlideUpload,
    folder: Path,
    label: str = "",
    still_mine: Callable[[], None] = lambda: None,
) -> UploadItem:
    """Take a slide that was found in an upload; idempotent per (upload, found.key).

    folder: where `found.files` lie. label: of the glass, from the form. still_mine raises
    when another worker took the upload over; it is called inside the transaction.
    """
    department = upload.department
    said = replace(matching.state(found, upload, department), slide_label=label)
    names = store.layout(found)
    for _round in range(ROUNDS):
        done = UploadItem.objects.filter(upload=upload, key=found.key).first()
        if done is not None:
            return done
        verdict = judge(found, said, department)
        item = UploadItem(
            department=department,
            upload=upload,
            key=found.key,
            name=found.name[:400],
            state=verdict.state,
            reason_code=verdict.code,
            reason=verdict.reason[:500],
            # Of somebody whose records were deleted nothing is kept again.
            facts={} if verdict.is_of_deleted else relocated(found, names).to_json(),
        )
        home = _home(verdict, item)
        if home is not None:
            store.place(folder, home, names, still_mine)
        if _write(item, found, said, verdict, folder, home, still_mine):
            return item
        if home is not None:
            store.remove(home)
    raise Conflict("The records kept changing while the slide was taken in.")


def _home(verdict: Verdict, item: UploadItem) -> Path | None:
    """Return the new folder that the slide needs, if it needs one."""
    if verdict.state in {State.UNMATCHED, State.INCOMPLETE}:
        return store.unmatched_folder(item.pk)
    if verdict.state == State.ACCEPTED and not verdict.extends:
        return store.slide_folder(uuid.uuid4())
    return None


@transaction.atomic
def _write(
    item: UploadItem,
    found: FoundSlide,
    said: matching.Statement,
    verdict: Verdict,
    folder: Path,
    home: Path | None,
    still_mine: Callable[[], None],
) -> bool:
    """Write the rows if the verdict still holds; returns whether it did."""
    still_mine()
    department = department_lock(item.department_id)
    if UploadItem.objects.filter(upload=item.upload, key=item.key).exists():
        return False
    if judge(found, said, department) != verdict:
        return False
    item.slide_image = verdict.slide_image
    if verdict.state == State.ACCEPTED:
        item.slide_image = accept(
            found=found,
            said=said,
            verdict=verdict,
            folder=folder,
            home=home,
            upload=item.upload,
            user=item.upload.uploaded_by,
        )
    item.save(force_insert=True)
    if item.state == State.ACCEPTED:
        _resolve_waiting(item, found)
    if item.state != State.REFUSED and item.reason_code != ALREADY_WAITING:
        _resolve_pieces(item, found)
    return True


def accept(
    *,
    found: FoundSlide,
    said: matching.Statement,
    verdict: Verdict,
    folder: Path,
    home: Path | None,
    upload: SlideUpload,
    user: Any,
) -> SlideImage:
    """Write the rows of an accepted slide, or extend its series, and tell who listens.

    Call it in the transaction that holds the department's lock. folder: where `found.files`
    lie; home: the new slide's folder, filled already.
    """
    if verdict.extends:
        image = records.image_extend(verdict.slide_image, found, folder)
    else:
        image = records.image_create(
            found=found,
            said=said,
            match=verdict.match,
            department=upload.department,
            home=home,
            is_synthetic=upload.is_synthetic,
        )
    if not found.lacks:
        image.settles_at = arrivals.settles_at(upload)
        image.save(update_fields=["settles_at", "updated_at"])
    access_event_record(
        user=user,
        action=Action.CHANGE if verdict.extends else Action.CREATE,
        department_id=image.department_id,
        patient_id=image.slide.case.patient_id,
        target=image,
    )
    # A late label changes nothing that is embedded.
    if not found.lacks:
        signals.slide_image_ready.send(sender=SlideImage, slide_image=image)
    return image


def _resolve_waiting(item: UploadItem, found: FoundSlide) -> None:
    """Close older items that waited with the same bytes: they are here now."""
    waiting = UploadItem.objects.filter(
        department=item.department_id,
        state=State.UNMATCHED,
        facts__content_sha256=found.content_sha256,
    ).exclude(pk=item.pk)
    for other in waiting:
        other.state = State.DUPLICATE
        other.reason_code = ALREADY_HERE
        other.reason = "The same slide came again with what was missing."
        other.slide_image = item.slide_image
        other.resolved_at = timezone.now()
        other.save()
        transaction.on_commit(partial(store.remove, store.unmatched_folder(other.pk)))


def _resolve_pieces(item: UploadItem, found: FoundSlide) -> None:
    """Close older items whose instances are among those of this one."""
    if not found.series_instance_uid:
        return
    here = {instance.sop_instance_uid for instance in found.instances}
    waiting = pieces_waiting(item.department_id, [found.series_instance_uid]).exclude(pk=item.pk)
    for other in waiting.select_for_update():
        if {i["sop_instance_uid"] for i in other.facts["instances"]} <= here:
            other.state, other.reason_code = State.DUPLICATE, JOINED
            other.reason = "Its instances were taken together with those that came later."
            other.slide_image = item.slide_image
            other.resolved_at = timezone.now()
            other.save()
            transaction.on_commit(partial(store.remove, store.unmatched_folder(other.pk)))


def item_refuse(*, upload: SlideUpload, key: str, name: str, code: str, reason: str) -> UploadItem:
    """Note a file that is no slide that can be taken; idempotent per (upload, key)."""
    item, _created = UploadItem.objects.get_or_create(
        upload=upload,
        key=key[:200],
        defaults={
            "department_id": upload.department_id,
            "name": name[:400],
            "state": State.REFUSED,
            "reason_code": code[:60],
            "reason": reason[:500],
        },
    )
    return item


def relocated(found: FoundSlide, names: dict[str, str]) -> FoundSlide:
    """Return the slide as it lies in a folder of its own."""
    return replace(
        found,
        files=tuple(sorted(names.values())),
        main_file=names.get(found.main_file, ""),
        # What was read for the index goes into rows of its own, not into the facts.
        instances=tuple(
            replace(i, file=names[i.file], metadata="", frame_table="", attributes={})
            for i in found.instances
        ),
    )
