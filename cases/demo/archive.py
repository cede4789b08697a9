"""Brings the demo archive into the site: cases and reports as an LIS would, slides as uploads.

Every step asks first what is there, so that a second run, also after a kill in the middle,
adds only what is missing and changes nothing that people changed since.
"""

import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from django.conf import settings

from cases.demo.plan import PlannedSlide, case_data, report_versions
from cases.demo.slides import end_with_parent, write_slide
from cases.models import (
    Case,
    Cohort,
    CohortEntry,
    Department,
    SlideImage,
    SlideUpload,
    UploadFile,
)
from cases.services.cases import case_upsert
from cases.services.cohorts import cohort_add, cohort_create, cohort_share
from cases.services.reports import report_save
from cases.services.uploads import upload_cancel, upload_local_folder

COHORT_NAME = "Teaching set: lung carcinomas"
_COHORT_KEYS = frozenset({"lung_adenocarcinoma", "lung_squamous"})
_State = SlideUpload.State
Users = Mapping[str, Any]
Note = Callable[[str], None]


def workshop() -> Path:
    """Return the folder where slides are made before they are uploaded."""
    return settings.DATA_DIR / "demo"


def is_uploaded(department: Department, key: str) -> bool:
    """Return whether a demo upload of this key was completed; gives up one that was cut off."""
    uploads = SlideUpload.objects.filter(
        department=department,
        source=SlideUpload.Source.DEMO,
        pk__in=UploadFile.objects.filter(name__startswith=f"{key}/").values("upload_id"),
    )
    for upload in uploads.filter(state=_State.RECEIVING):
        upload_cancel(upload=upload, user=upload.uploaded_by)
    return uploads.exclude(state__in=[_State.RECEIVING, _State.CANCELLED]).exists()


def cases_ensure(slides: list[PlannedSlide], users: Users) -> int:
    """Make the cases and reports that are missing; returns how many cases are new."""
    by_case: dict[tuple[str, str], list[PlannedSlide]] = {}
    for slide in slides:
        by_case.setdefault((slide.department.code, slide.accession_number), []).append(slide)
    departments = {department.code: department for department in Department.objects.all()}
    made = 0
    for (code, accession_number), of_case in by_case.items():
        case = Case.objects.filter(
            department__code=code,
            accession_number=accession_number,
            accession_issuer=of_case[0].department.accession_issuer,
        ).first()
        glasses = set(case.slides.values_list("label", flat=True)) if case else set()
        if not {slide.label for slide in of_case} <= glasses:
            case, is_new = case_upsert(
                user=users[f"{code}-technician"],
                department=departments[code],
                data=case_data(of_case),
            )
            made += is_new
        author = users[f"{code}-pathologist"]
        for version in report_versions(of_case[0])[case.reports.count() :]:
            report_save(user=author, case=case, author=author, **version)
    return made


def slides_ensure(
    slides: list[PlannedSlide],
    users: Users,
    *,
    jobs: int,
    note: Note,
    uploaded: Callable[[SlideUpload], None] = lambda upload: None,
) -> int:
    """Paint and upload the slides that are missing; returns how many. Slides keep their order."""
    departments = {department.code: department for department in Department.objects.all()}
    missing = [s for s in slides if not is_uploaded(departments[s.department.code], s.key)]
    if not missing:
        return 0
    shutil.rmtree(workshop(), ignore_errors=True)  # what a killed run left
    workshop().mkdir(parents=True)
    note(f"{len(missing)} of {len(slides)} slides are to be painted.")
    try:
        for number, (slide, folder) in enumerate(_painted(missing, jobs), start=1):
            upload = upload_local_folder(
                user=users[f"{slide.department.code}-technician"],
                department=departments[slide.department.code],
                folder=folder.parent,
                source=SlideUpload.Source.DEMO,
                is_synthetic=True,
                **_form(slide),
            )
            shutil.rmtree(folder.parent)
            uploaded(upload)
            kind = "DICOM" if slide.is_dicom else "TIFF"
            note(f"{number}/{len(missing)} {slide.key}: {slide.diagnosis.key}, {kind}")
    finally:
        shutil.rmtree(workshop(), ignore_errors=True)
    return len(missing)


def _form(slide: PlannedSlide) -> dict[str, Any]:
    """Return the upload form: only TIFF needs one, DICOM says it in its headers."""
    if slide.is_dicom:
        return {}
    patient = slide.patient
    return {
        "accession_number": slide.accession_number,
        "mrn": patient.mrn,
        "family_name": patient.family_name,
        "given_name": patient.given_name,
        "birth_date": patient.birth_date,
        "sex": patient.sex,
        "organ": slide.diagnosis.organ,
        "stain": "H&E",
        "slide_label": slide.label,
    }


def _painted(slides: list[PlannedSlide], jobs: int) -> Iterator[tuple[PlannedSlide, Path]]:
    """Yield each slide with the folder of its files, painted a little ahead in `jobs` processes."""
    if jobs <= 1:
        for slide in slides:
            yield slide, write_slide(slide, workshop() / slide.key)
        return
    # Spawned, not forked: the parent holds database connections.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent) as pool:
        ahead: list[tuple[PlannedSlide, Future[Path]]] = []
        waiting = iter(slides)
        try:
            while True:
                # A few at a time: a whole archive waiting to be uploaded would fill the disk.
                while len(ahead) < jobs + 2 and (slide := next(waiting, None)):
                    ahead.append((slide, pool.submit(write_slide, slide, workshop() / slide.key)))
                if not ahead:
                    return
                slide, future = ahead.pop(0)
                yield slide, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def pending(slides: list[PlannedSlide]) -> int:
    """Return how many uploads of the demo still wait for the intake workers."""
    return SlideUpload.objects.filter(
        source=SlideUpload.Source.DEMO,
        state__in=[_State.QUEUED, _State.RUNNING],
        department__code__in={slide.department.code for slide in slides},
    ).count()


def cohort_ensure(slides: list[PlannedSlide], users: Users) -> int:
    """Make the shared cohort and put in what never was in it; returns how many were added.

    A slide that somebody took out stays out, and a cohort that was renamed is not made again.
    """
    chosen = [
        slide
        for slide in slides
        if slide.department.code == "northside" and slide.diagnosis.key in _COHORT_KEYS
    ]
    if not chosen:
        return 0
    admin = users["northside-admin"]
    home = Department.objects.get(code="northside")
    cohort = Cohort.objects.filter(department=home, created_by=admin).order_by("created_at").first()
    if cohort is None:
        cohort = cohort_create(
            user=admin,
            department=home,
            name=COHORT_NAME,
            description="Adenocarcinoma beside squamous cell carcinoma, open to both departments.",
        )
        others = Department.objects.filter(code__in={s.department.code for s in slides})
        cohort_share(user=admin, cohort=cohort, departments=others.exclude(pk=home.pk))
    images = SlideImage.objects.visible_to(admin).filter(
        department=home, slide__label_barcode__in=[slide.barcode for slide in chosen]
    )
    known = CohortEntry.objects.filter(cohort=cohort).values("slide_image_id")
    new = list(images.exclude(pk__in=known))
    return cohort_add(user=admin, cohort=cohort, slide_images=new).added if new else 0
