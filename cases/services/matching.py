"""Decides whose slide it is: what the files and the form say against what is on record.

The rule: doubt goes to a person. Nothing here writes.
"""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from django.utils.translation import gettext as _

from cases.models import Case, Department, Patient, Slide, SlideImage, SlideUpload
from cases.patient_numbers import row_of_number
from cases.wsi.delivery import FoundSlide

PATIENT_MISMATCH = "patient_mismatch"
MIXED_PATIENTS = "mixed_patients"
FORM_DISAGREES = "form_disagrees"
ACCESSION_MISSING = "accession_missing"
MRN_MISSING = "mrn_missing"
MPP_MISSING = "mpp_missing"

# Scanners and converters fill required fields with these.
DUMMIES = frozenset({"unknown", "?", "none", "n/a", "na", "-", "null", "undefined"})


@dataclass(frozen=True)
class Problem:
    """Why a person must look: a code and a sentence without patient data."""

    code: str
    reason: str


@dataclass(frozen=True)
class Statement:
    """What is said about a slide, from its files first and from the form where these are silent."""

    mrn: str = ""
    mrn_issuer: str = ""
    family_name: str = ""
    given_name: str = ""
    birth_date: date | None = None
    sex: str = ""
    accession_number: str = ""
    accession_issuer: str = ""
    organ: str = ""
    stain: str = ""
    slide_label: str = ""
    container_id: str = ""
    mpp: float | None = None
    mpp_source: str = ""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Match:
    """The rows on record that a statement means, or the problems that a person must solve."""

    patient: Patient | None = None
    case: Case | None = None
    problems: tuple[Problem, ...] = ()


def known(text: str | None) -> str:
    """Return the text, or nothing where it is a filler."""
    clean = (text or "").strip()
    return "" if clean.casefold() in DUMMIES else clean


def day(text: str) -> date | None:
    """Return an ISO date, None for nothing or nonsense."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def state(found: FoundSlide, form: SlideUpload, department: Department) -> Statement:
    """Return what the files say, completed by the form; where they contradict, a problem."""
    said = {
        name: known(getattr(found, name))
        for name in ("mrn", "family_name", "given_name", "sex", "accession_number")
    }
    birth_date = day(found.birth_date)
    pairs = [
        (said["mrn"], form.mrn, "MRN"),
        (said["accession_number"], form.accession_number, "accession number"),
        (birth_date, form.birth_date, "birth date"),
    ]
    disagreeing = [what for file, typed, what in pairs if file and typed and file != typed]
    problems = ()
    if disagreeing:
        what = " and ".join(disagreeing)
        problems = (Problem(FORM_DISAGREES, f"File and upload form state another {what}."),)
    mpp, mpp_source = found.mpp, found.mpp_source
    # An objective power only hints at the resolution: what a person entered is better.
    if form.mpp and mpp_source != SlideImage.MppSource.FILE:
        mpp, mpp_source = form.mpp, SlideImage.MppSource.ENTERED
    return Statement(
        mrn=said["mrn"] or form.mrn,
        mrn_issuer=known(found.mrn_issuer) or form.mrn_issuer or department.mrn_issuer,
        family_name=said["family_name"] or form.family_name,
        given_name=said["given_name"] or form.given_name,
        birth_date=birth_date or form.birth_date,
        sex=said["sex"] or form.sex,
        accession_number=said["accession_number"] or form.accession_number,
        accession_issuer=known(found.accession_issuer)
        or form.accession_issuer
        or department.accession_issuer,
        organ=known(found.organ) or form.organ,
        stain=known(found.stain) or form.stain,
        slide_label=form.slide_label,
        container_id=known(found.container_id),
        mpp=mpp,
        mpp_source=mpp_source,
        problems=problems,
    )


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum())


def differences(said: Statement, patient: Patient) -> list[str]:
    """Return what the statement says otherwise than the patient on record, in words.

    A number that was merged into the patient's is compared with what is known under it.
    """
    patient = row_of_number(patient, said.mrn, said.mrn_issuer)
    found = []
    if said.mrn and said.mrn != patient.mrn:
        found.append(_("MRN"))
    elif said.mrn and said.mrn_issuer != patient.mrn_issuer:
        found.append(_("MRN issuer"))
    names = _plain(said.family_name), _plain(patient.family_name)
    if all(names) and names[0] != names[1]:
        found.append(_("family name"))
    if said.birth_date and patient.birth_date and said.birth_date != patient.birth_date:
        found.append(_("birth date"))
    if {said.sex, patient.sex} == {"F", "M"}:
        found.append(_("sex"))
    return found


def _mismatch(said: Statement, patient: Patient, whose: str) -> tuple[Problem, ...]:
    different = differences(said, patient)
    if not different:
        return ()
    return (
        Problem(
            PATIENT_MISMATCH,
            f"The slide names another patient than {whose}: {', '.join(different)} differs.",
        ),
    )


def find_case(said: Statement, department: Department) -> Case | None:
    """Return the department's case of this accession, or the one whose glass has the barcode."""
    cases = Case.objects.filter(department=department).select_related("patient")
    if said.accession_number:
        return cases.filter(
            accession_number=said.accession_number, accession_issuer=said.accession_issuer
        ).first()
    if said.container_id:
        glass = Slide.objects.filter(
            case__department=department, label_barcode=said.container_id
        ).values_list("case_id", flat=True)
        # One barcode on glasses of two cases says nothing.
        ids = set(glass[:2])
        if len(ids) == 1:
            return cases.get(pk=ids.pop())
    return None


def find_patient(said: Statement, department: Department) -> Patient | None:
    """Return the department's row of this MRN; since a merge, another may be in use."""
    if not said.mrn:
        return None
    return Patient.objects.filter(
        department=department, mrn=said.mrn, mrn_issuer=said.mrn_issuer
    ).first()


def patients_of_studies(department: Department, studies: Collection[str]) -> dict[str, set[str]]:
    """Return the patient ids that stand for these studies: on record, and as files said them.

    A person may have matched a slide to another patient than its header names; the header's
    id stays right for more instances of that study.
    """
    ids: dict[str, set[str]] = {}
    rows = SlideImage.objects.filter(
        department=department, study_instance_uid__in=[study for study in studies if study]
    ).values_list("study_instance_uid", "slide__case__patient__mrn", "upload_items__facts__mrn")
    for study, *texts in rows:
        ids.setdefault(study, set()).update(filter(None, map(known, texts)))
    return ids


def match(said: Statement, department: Department, study_instance_uid: str = "") -> Match:
    """Return whose slide it is, or why a person must say it.

    study_instance_uid: of a DICOM series that is not on record yet.
    """
    problems: list[Problem] = list(said.problems)
    case = find_case(said, department)
    if case is not None:
        patient: Patient | None = row_of_number(case.patient, said.mrn, said.mrn_issuer)
        problems += _mismatch(said, case.patient, "the case on record")
    else:
        patient = find_patient(said, department)
        if patient is not None:
            problems += _mismatch(said, patient, "the patient on record with this MRN")
        if not said.accession_number:
            problems.append(
                Problem(ACCESSION_MISSING, "Neither file nor form states an accession number.")
            )
        if not said.mrn:
            problems.append(
                Problem(MRN_MISSING, "Neither file nor form states an MRN for this new case.")
            )
    ids = patients_of_studies(department, [study_instance_uid]).get(study_instance_uid)
    if ids and (patient.mrn if patient else said.mrn) not in {"", *ids}:
        problems.append(
            Problem(MIXED_PATIENTS, "Another patient's slides are on record in the same study.")
        )
    if not said.mpp:
        problems.append(
            Problem(MPP_MISSING, "The file does not state its resolution (µm per pixel).")
        )
    return Match(patient, case, tuple(problems))


def match_known_image(said: Statement, slide_image: SlideImage) -> tuple[Problem, ...]:
    """Return why instances of a series that is on record may belong to somebody else."""
    case = slide_image.slide.case
    problems = [*said.problems, *_mismatch(said, case.patient, "the case of this series")]
    if said.accession_number and said.accession_number != case.accession_number:
        problems.append(
            Problem(PATIENT_MISMATCH, "This series is on record under another accession number.")
        )
    return tuple(problems)


def overridden(said: Statement, **values: Any) -> Statement:
    """Return the statement with what a person chose instead, and no contradiction left."""
    given = {name: value for name, value in values.items() if value not in (None, "")}
    if "mpp" in given:
        given["mpp_source"] = SlideImage.MppSource.ENTERED
    return replace(said, problems=(), **given)
