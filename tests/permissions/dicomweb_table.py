"""The rows of DICOMweb."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.cases.dicomweb.storing import TYPE, body_of
from tests.permissions.pixels import dicom_uids
from tests.permissions.row import Of, Row
from tests.synthetic_slide import make_uid, write_dicom_slide

_STUDY = make_uid("a study of the table")


@cache
def _store_body() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        slide = write_dicom_slide(Path(folder) / "slide", levels=1, study_uid=_STUDY)
        return body_of(file.read_bytes() for file in slide.iterdir())


def _stored(_world: Any, _place: str) -> bytes:
    return _store_body()


def _study(_world: Any, _place: str) -> dict[str, str]:
    return {"study_uid": _STUDY}


# A department that may not be seen is a wrong value of the query, as one that does not exist.
_TO_DEPARTMENT: dict[str, Any] = {
    "of": "department",
    "roles": "PTD",
    "hidden": 400,
    "in_body": True,
    "query": "department={id}",
    "body": _stored,
    "content_type": TYPE,
}


def _of_slide(*names: str) -> Of:
    def url(world: Any, place: str) -> dict[str, Any]:
        uids = dicom_uids(world.id("slide_image", place))
        return {name: uids[name] for name in names}

    return url


DICOMWEB = [
    Row("dicomweb-studies", lists="study_uid"),
    Row("dicomweb-studies", query="PatientName=F*&includefield=all", variant="by name"),
    Row("dicomweb-series", lists="study_uid"),
    Row("dicomweb-instances", lists="study_uid"),
    Row("dicomweb-instances", query="includefield=all", lists="study_uid", variant="all fields"),
    Row("dicomweb-series-of-study", of="slide_image", url=_of_slide("study_uid")),
    Row("dicomweb-instances-of-study", of="slide_image", url=_of_slide("study_uid")),
    Row(
        "dicomweb-instances-of-series",
        of="slide_image",
        url=_of_slide("study_uid", "series_uid"),
    ),
    Row("dicomweb-studies", "POST", **_TO_DEPARTMENT),
    Row("dicomweb-study", "POST", url=_study, **_TO_DEPARTMENT),
]
