"""Writes what a model saw in a slide as DICOM objects, beside the slide.

The UIDs follow from the slide, the model and the result: the same result is the same instance
and is written once, another one replaces it under the same series.
"""

import logging
import warnings
from typing import Any
from uuid import UUID

import pydicom
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_q.tasks import async_task
from pydicom.dataset import Dataset

from cases.dicomweb.virtual import virtual_objects
from cases.errors import DomainError
from cases.models import DerivedInstance, SlideImage, SlideInstance
from cases.permissions import require
from cases.services.audit import Action, access_event_record
from cases.services.derived import derived_remove, derived_write
from cases.services.store import image_path
from cases.wsi.uids import related_uid
from retrieval.models import SlideEmbedding, SlideIndex
from retrieval.services.explaining import patch_attention
from retrieval.services.features import features_read

log = logging.getLogger(__name__)

Kind = DerivedInstance.Kind
SERIES_NUMBERS = {Kind.ANNOTATIONS: 9001, Kind.PARAMETRIC_MAP: 9002}


class NoResults(DomainError):
    """There is nothing to write: the slide is not indexed, or its files are gone."""

    http_status = 409
    code = "no_results"
    message = _("This slide is not indexed by this model, so that there is nothing to write.")


TASK = "retrieval.tasks.write_dicom_results_task"


@transaction.atomic
def results_request(*, user: Any, index: SlideIndex) -> None:
    """Queue the writing for one slide image. Raises NoResults, PermissionDenied."""
    require(user, "retry_work", index.department_id)
    if index.state != SlideIndex.State.INDEXED:
        raise NoResults
    async_task(TASK, str(index.pk), cluster="indexing")
    access_event_record(
        user=user,
        action=Action.CREATE,
        department_id=index.department_id,
        patient_id=index.slide_image.slide.case.patient_id,
        target=index.slide_image,
        detail={"act": "dicom results"},
    )


def results_write(*, index: SlideIndex) -> list[DerivedInstance]:
    """Write annotations and map of an indexed slide image; what is there already stays.

    Raises NoResults, FeaturesUnreadable, SlideUnreadable, WsiError.
    """
    from retrieval.engine import dicom_results as made  # highdicom is slow to import

    slide_image, model = index.slide_image, index.model
    embedding = SlideEmbedding.objects.filter(slide_image=slide_image, model=model).first()
    if index.state != SlideIndex.State.INDEXED or embedding is None or not index.features_path:
        raise NoResults
    kept = features_read(index.features_path)
    attention = patch_attention(embedding, kept)
    result = made.SlideResult(
        model=model.name,
        version=f"{model.encoder} {model.weights_sha256[:16]}"[:64],
        places=embedding.places,
        coords_l0=kept.coords_l0,
        size_l0=kept.size_l0,
        nearest=attention.nearest,
        likeness=attention.likeness,
    )
    source = _source_header(slide_image)
    digest = f"{result.digest()} {source.SOPInstanceUID}"
    written = []
    for kind, write in (
        (Kind.ANNOTATIONS, made.bulk_annotations),
        (Kind.PARAMETRIC_MAP, made.likeness_map),
    ):
        uids = made.ResultUids(
            series_instance_uid=related_uid(slide_image.pk, f"{kind} {model.name}"),
            sop_instance_uid=related_uid(slide_image.pk, f"{kind} {model.name} {digest}"),
            series_number=SERIES_NUMBERS[kind],
        )
        there = _there(slide_image, kind, model.name, uids.sop_instance_uid)
        if there is not None:
            written.append(there)
            continue
        try:
            dataset = write(source, result, uids)
        except ValueError as error:
            log.info("slide image %s: no %s (%s)", slide_image.pk, kind, error)
            derived_remove(slide_image=slide_image, maker=model.name, kinds=[kind])
            continue
        written.append(
            derived_write(slide_image=slide_image, kind=kind, maker=model.name, dataset=dataset)
        )
    return written


def _there(slide_image: SlideImage, kind: str, maker: str, uid: str) -> DerivedInstance | None:
    """Return the same instance as it was written before; notes that it was looked at."""
    row = DerivedInstance.objects.filter(
        slide_image=slide_image, kind=kind, maker=maker, sop_instance_uid=uid
    ).first()
    if row is None or not row.path.is_file():
        return None
    DerivedInstance.objects.filter(pk=row.pk).update(updated_at=timezone.now())
    return row


def _source_header(slide_image: SlideImage) -> Dataset:
    """Return the header of the finest image of the tissue."""
    if slide_image.source_format == SlideImage.Format.VENDOR:
        return virtual_objects(slide_image)[0].header()
    row = (
        SlideInstance.objects.filter(slide_image=slide_image, flavor="volume")
        .order_by("-total_columns", "sop_instance_uid")
        .first()
    )
    file = image_path(slide_image) / row.file_name if row is not None else None
    if file is None or not file.is_file():
        raise NoResults("The slide's files are not there.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a scanner wrote oddly is no matter here
        return pydicom.dcmread(file, stop_before_pixels=True)


def results_outdated() -> QuerySet[SlideIndex]:
    """Return the indexed slides whose objects are missing or older than their index."""
    newer = DerivedInstance.objects.filter(
        slide_image=OuterRef("slide_image"),
        maker=OuterRef("model__name"),
        kind=Kind.ANNOTATIONS,
        updated_at__gte=OuterRef("finished_at"),
    )
    return (
        SlideIndex.objects.filter(state=SlideIndex.State.INDEXED, finished_at__isnull=False)
        .exclude(features_path="")
        .annotate(has_results=Exists(newer))
        .filter(has_results=False)
        .select_related("model", *(f"slide_image__{name}" for name in _OF_SLIDE))
        .order_by("finished_at")
    )


_OF_SLIDE = ("department", "slide__specimen", "slide__case__patient")


def results_write_for(pk: UUID | str) -> bool:
    """Write the objects of one index row; an error is logged, never raised: search goes on."""
    index = (
        SlideIndex.objects.filter(pk=pk)
        .select_related("model", *(f"slide_image__{name}" for name in _OF_SLIDE))
        .first()
    )
    if index is None:
        return False
    try:
        results_write(index=index)
    except Exception as error:
        code: Any = getattr(error, "code", type(error).__name__)
        log.error("no DICOM results of slide image %s: %s", index.slide_image_id, code)
        return False
    return True


def results_sweep(limit: int = 20) -> int:
    """Write what is missing or outdated, a few at a time; returns how many were written."""
    keys = list(results_outdated().values_list("pk", flat=True)[:limit])
    return sum(results_write_for(pk) for pk in keys)
