"""What similarity was worth in a department's own labelled cases; fitted each night.

Leave-patient-out: each labelled slide asks for the nearest slides of *other* patients of its
department, as a search by a whole slide does, and each of the nearest patients is one pair:
(similarity, whether the diagnosis is the same). Rows of other departments play no part, so that
what a department's members are told depends on nothing that they cannot see.
"""

import logging

from django.db import transaction

from cases.models import Department, Report
from retrieval.engine.calibration import calibrate
from retrieval.filters import SIGNED, other_people
from retrieval.models import EmbeddingModel, SlideEmbedding, VoteCalibration
from retrieval.querysets import SlideEmbeddingQuerySet
from retrieval.selectors_vote import VOTING_PATIENTS, diagnosis_key
from retrieval.services.comparing import compare_mosaics
from retrieval.services.models import NoActiveModel, active_model
from retrieval.services.query_mosaics import ImagePart

logger = logging.getLogger(__name__)

PATIENTS_ASKED = 400
CANDIDATES = 60
PAIRS_MIN = 50


def _labelled(department: Department, model: EmbeddingModel) -> SlideEmbeddingQuerySet:
    signed = Report.objects.filter(
        case__department=department, is_current=True, status__in=SIGNED
    ).exclude(diagnosis_code="", diagnosis_line="")
    return SlideEmbedding.objects.filter(
        department=department, model=model, slide_image__slide__case__in=signed.values("case_id")
    )


def vote_calibrate(*, department: Department, model: EmbeddingModel) -> VoteCalibration | None:
    """Fit and keep the calibration of one department; None, and none kept, when too few tell."""
    pairs = _pairs(department, model)
    with transaction.atomic():
        if len(pairs) < PAIRS_MIN:
            VoteCalibration.objects.filter(department=department, model=model).delete()
            return None
        fitted = calibrate([near for near, _same, _who in pairs], [same for _n, same, _w in pairs])
        row, _created = VoteCalibration.objects.update_or_create(
            department=department,
            model=model,
            defaults={
                "similarities": list(fitted.similarities),
                "agreements": list(fitted.agreements),
                "pairs": fitted.pairs,
                "patients": len({who for _n, _s, who in pairs}),
            },
        )
    logger.info("Calibrated the vote of department %s on %d pairs", department.pk, len(pairs))
    return row


def _pairs(
    department: Department, model: EmbeddingModel
) -> list[tuple[float, bool, tuple[str, str]]]:
    """Return (similarity, same diagnosis, who asked) of each asking patient's neighbours."""
    labelled = _labelled(department, model)
    diagnosis = dict(_diagnoses(department))
    asked: set[tuple[str, str]] = set()
    found = []
    # Slide image ids are random: the first of them are a fair sample.
    rows = labelled.select_related("model", "slide_image__slide__case__patient").order_by(
        "slide_image_id"
    )
    for embedding in rows.iterator(chunk_size=100):
        patient = embedding.slide_image.slide.case.patient
        who = (patient.mrn_issuer, patient.mrn)
        if who in asked:
            continue
        if len(asked) == PATIENTS_ASKED:
            break
        asked.add(who)
        others = labelled.filter(other_people(patient, prefix="slide_image__"))
        own = diagnosis[embedding.slide_image.slide.case_id]
        for similarity, case_id in _neighbours(others, model, embedding):
            found.append((similarity, diagnosis[case_id] == own, who))
    return found


def _diagnoses(department: Department):
    rows = Report.objects.filter(case__department=department, is_current=True, status__in=SIGNED)
    for case_id, *parts in rows.values_list(
        "case_id", "diagnosis_system", "diagnosis_code", "diagnosis_line"
    ):
        yield case_id, diagnosis_key(*parts)


def _neighbours(others: SlideEmbeddingQuerySet, model: EmbeddingModel, asking: SlideEmbedding):
    """Yield (similarity, case) of the nearest patients' nearest slides, as a search has them."""
    part = ImagePart(model, asking.as_mosaic(), whole_slide=True)
    near = others.nearest_mosaics(model=model, vector=part.mosaic.slide_vector, limit=CANDIDATES)
    compared = compare_mosaics(others, part, near, near)
    people = {
        pk: (case_id, (issuer, mrn))
        for pk, case_id, issuer, mrn in others.filter(slide_image__in=list(compared)).values_list(
            "slide_image_id",
            "slide_image__slide__case_id",
            "slide_image__slide__case__patient__mrn_issuer",
            "slide_image__slide__case__patient__mrn",
        )
    }
    seen = set()
    for pk in sorted(compared, key=lambda pk: (-compared[pk].similarity, str(pk))):
        case_id, who = people[pk]
        if who not in seen and len(seen) < VOTING_PATIENTS:
            seen.add(who)
            yield compared[pk].similarity, case_id


def votes_calibrate(*, department_code: str = "") -> int:
    """Calibrate the vote of every department for the active model; returns how many could be."""
    try:
        model = active_model(EmbeddingModel.Modality.IMAGE)
    except NoActiveModel:
        return 0
    departments = Department.objects.order_by("pk")
    if department_code:
        departments = departments.filter(code=department_code)
    done = 0
    for department in departments:
        done += vote_calibrate(department=department, model=model) is not None
    return done
