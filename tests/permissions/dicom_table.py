"""The rows of WADO-RS: every resource of a slide image's study, series and instance."""

from typing import Any

from tests.permissions.pixels import dicom_uids
from tests.permissions.row import ALL, Of, Row


def _dicom(*kept: str, **more: Any) -> Of:
    def url(world: Any, place: str) -> dict[str, Any]:
        uids = dicom_uids(world.id("slide_image", place))
        return {**{name: uids[name] for name in kept}, **more}

    return url


_WHOLE = ("study", "one-series", "instance")
_SERIES = ("study_uid", "series_uid")
_INSTANCE = (*_SERIES, "sop_uid")

RETRIEVED = [
    *(
        # Whole files name the patient.
        Row(f"dicomweb-{name}", of="slide_image", url=url, roles="PTD" if name in _WHOLE else ALL)
        for name, url in (
            ("study", _dicom("study_uid")),
            ("study-metadata", _dicom("study_uid")),
            ("study-thumbnail", _dicom("study_uid")),
            ("one-series", _dicom(*_SERIES)),
            ("series-metadata", _dicom(*_SERIES)),
            ("series-thumbnail", _dicom(*_SERIES)),
            ("instance", _dicom(*_INSTANCE)),
            ("instance-metadata", _dicom(*_INSTANCE)),
            ("instance-thumbnail", _dicom(*_INSTANCE)),
            ("instance-rendered", _dicom(*_INSTANCE)),
            ("frames", _dicom(*_INSTANCE, frames="2")),
            ("frames-rendered", _dicom(*_INSTANCE, frames="2")),
            ("bulkdata", _dicom(*_INSTANCE, path="7FE00010")),
        )
    )
]
