"""What a training on the site's archive learns from: slides, labels, reports, kept features."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from cases import identity
from cases.errors import Conflict, DomainError
from cases.models import Case, Cohort, CohortEntry, Report, SlideImage
from cases.permissions import departments_with
from retrieval.engine.aligner.archive import Archive, read_archive
from retrieval.engine.aligner.diagnoses import frequent_labels, label_of
from retrieval.engine.aligner.folder import SlideLine, drawn_patches, is_complete, write_folder
from retrieval.filters import SIGNED
from retrieval.models import EmbeddingModel, SlideIndex, TrainingRun, TrainingSlide
from retrieval.services.features import features_are_usable, features_read

LABELS = {
    "code": "organ and diagnosis code of the signed report; its diagnosis line where it has none",
    "line": "organ and diagnosis line of the signed report",
    "reports": "site and kind of tumour by the words of the report",
}
# Slides that an error lists by name; the rest is counted.
_LISTED = 10


class FeaturesMissing(Conflict):
    """Slides of the cohort have no kept features to learn from."""

    code = "features_missing"


@dataclass(frozen=True)
class TrainingItem:
    """A slide of a cohort, with what a training needs to know of it.

    hospital: the department and the issuer of the accession number. A department that reports
    for several hospitals knows them apart by that.
    """

    slide_image_id: UUID
    department_id: int
    patient: str
    hospital: str
    label: str
    features_path: str
    report: str


def cohorts_to_train_on(user: Any, names: list[str]) -> list[Cohort]:
    """Return the named cohorts that the user may take out of the site for a training.

    names: a cohort's id, or its name; a name of two departments is "code/name". A cohort that
    the user does not see, or may not export, is not found.
    """
    departments = departments_with(user, "export_cohort")
    usable = Cohort.objects.visible_to(user).filter(department__in=departments)
    found = []
    for name in names:
        rows = _named(usable, name)
        if len(rows) != 1:
            raise DomainError(
                f"{'No cohort' if not rows else 'More than one cohort'} {name!r} may be used by "
                "this user. Give the id, or department-code/name, of one that the user sees and "
                "may export.",
                code="cohort_not_found",
            )
        found += rows
    return found


def _named(usable: Any, name: str) -> list[Cohort]:
    try:
        return list(usable.filter(pk=UUID(name)))
    except ValueError:
        pass
    code, slash, rest = name.partition("/")
    rows = list(usable.filter(department__code=code, name=rest)) if slash else []
    return rows or list(usable.filter(name=name))


def training_items(
    user: Any, cohorts: list[Cohort], source: EmbeddingModel, *, labels: str, least: int
) -> list[TrainingItem]:
    """Return the slides of the cohorts that the user sees. Raises FeaturesMissing.

    labels: one of LABELS. least: patients that a label needs; a rarer one is left empty.
    """
    entries = CohortEntry.objects.visible_to(user).filter(
        cohort__in=cohorts, removed_at__isnull=True
    )
    images = list(
        SlideImage.objects.visible_to(user)
        .filter(pk__in=entries.values("slide_image_id"))
        .select_related("slide__case__patient", "slide__case__department", "slide__specimen")
        .order_by("created_at", "pk")
    )
    paths = feature_paths(source, [image.pk for image in images])
    _require_features(images, paths)
    reports = {
        report.case_id: report
        for report in Report.objects.visible_to(user).filter(
            is_current=True, status__in=SIGNED, case__in={i.slide.case_id for i in images}
        )
    }
    items = [
        _item(image, paths[image.pk], reports.get(image.slide.case_id), labels) for image in images
    ]
    return _with_frequent_labels(items, least)


def _require_features(images: list[SlideImage], paths: dict[UUID, str]) -> None:
    missing = [
        image
        for image in images
        if image.pk not in paths or not features_are_usable(paths[image.pk])
    ]
    if not missing:
        return
    listed = ", ".join(
        f"{image.slide.case.accession_number} {image.slide.label}" for image in missing[:_LISTED]
    )
    more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
    raise FeaturesMissing(
        f"{len(missing)} slides have no usable features: {listed}{more}. Wait until they are "
        "indexed, index them again (manage.py reindex --state failed --state skipped, or --state "
        "indexed where files are damaged), or take them out of the cohort."
    )


def _item(image: SlideImage, path: str, report: Report | None, labels: str) -> TrainingItem:
    case = image.slide.case
    organ = image.slide.specimen.organ if image.slide.specimen else ""
    return TrainingItem(
        slide_image_id=image.pk,
        department_id=image.department_id,
        patient=f"{case.patient.mrn_issuer}|{case.patient.mrn}",
        hospital=f"{case.department.code}|{case.accession_issuer}",
        label=_label(report, organ, labels) if report else "",
        features_path=path,
        report=_text_of(report) if report else "",
    )


def _text_of(report: Report) -> str:
    """Return the report without the people in it: a model learns no names."""
    return identity.cleaner_of(report).clean(report.full_text)


def _label(report: Report, organ: str, labels: str) -> str:
    if labels == "reports":
        return label_of(report.full_text)
    line = " ".join(report.diagnosis_line.lower().split())
    what = (report.diagnosis_code if labels == "code" else "") or line
    return f"{organ.lower()}: {what}"[:200] if what else ""


def _with_frequent_labels(items: list[TrainingItem], least: int) -> list[TrainingItem]:
    pairs = sorted({(item.label, item.patient) for item in items if item.label})
    kept = set(frequent_labels((label for label, _ in pairs), least)) - {""}
    return [
        item if item.label in kept else TrainingItem(**{**vars(item), "label": ""})
        for item in items
    ]


def training_folder(run: TrainingRun, folder: Path, *, patches: int) -> Archive:
    """Return the archive of a run, written below `folder` by the first call.

    It holds no name or number of a patient, and is given only while the run's user may see all
    of it: to a run that goes on, too.
    patches: most of a slide, drawn by the run's seed, so that a large archive fits.
    """
    visible = run.slides.visible_to(run.user)
    if visible.count() != run.slides.count():
        raise Conflict(
            "Slides of this training may no longer be seen by the user who started it. "
            "Start another one.",
            code="training_rights_changed",
        )
    if not is_complete(folder):
        rows = list(
            visible.select_related(
                "slide_image__slide__case__patient", "slide_image__slide__case__department"
            ).order_by("pk")
        )
        write_folder(
            folder, _lines(run, rows, patches), _reports(run, rows), width=run.source.feature_width
        )
    return read_archive(folder, label_column="label")


def feature_paths(source: EmbeddingModel, slide_image_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return where the features of slides by the encoder of this model are kept."""
    return dict(
        SlideIndex.objects.filter(
            slide_image__in=list(slide_image_ids),
            state=SlideIndex.State.INDEXED,
            model__encoder=source.encoder,
            model__weights_sha256=source.weights_sha256,
        )
        .exclude(features_path="")
        .order_by("model__is_active")
        .values_list("slide_image_id", "features_path")
    )


def _pseudonym(run: TrainingRun, case: Case) -> str:
    """Return the patient's name in the files of a run: the person's, not the row's."""
    key = f"{run.pk}|{case.patient.mrn_issuer}|{case.patient.mrn}"
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _lines(
    run: TrainingRun, rows: list[TrainingSlide], patches: int
) -> Iterator[tuple[SlideLine, np.ndarray]]:
    paths = feature_paths(run.source, [row.slide_image_id for row in rows])
    for number, row in enumerate(rows):
        if row.slide_image_id not in paths:
            raise FeaturesMissing(
                "A slide of this training has lost its features since it began: it is being "
                "indexed again. Resume the training later."
            )
        case = row.slide_image.slide.case
        features = features_read(paths[row.slide_image_id]).features
        line = SlideLine(
            slide_id=str(row.slide_image_id),
            patient=_pseudonym(run, case),
            hospital=f"{case.department.code}|{case.accession_issuer}",
            label=row.label,
            split=row.part,
        )
        yield line, drawn_patches(features, patches, run.settings["seed"] * 1_000_003 + number)


def _reports(run: TrainingRun, rows: list[TrainingSlide]) -> Iterator[tuple[str, str]]:
    """Yield each patient's signed report; of several cases, that of the first slide's case."""
    cases = {row.slide_image.slide.case_id: row.slide_image.slide.case for row in rows}
    reports = {
        report.case_id: _text_of(report)
        for report in Report.objects.visible_to(run.user).filter(
            is_current=True, status__in=SIGNED, case__in=cases
        )
    }
    told: set[str] = set()
    for case_id, case in cases.items():
        patient = _pseudonym(run, case)
        if case_id in reports and patient not in told:
            told.add(patient)
            yield patient, reports[case_id]
