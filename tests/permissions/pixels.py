"""One tiny real slide, with a label, behind each slide image of the world."""

from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from cases.models import SlideImage, SlideInstance
from cases.wsi.uids import instance_uid, related_uid, uid_of
from tests.synthetic_slide import picture, write_dicom_slide

SIDE = 512


@cache
def _written() -> Path:
    folder = settings.DATA_DIR / "slides" / "permission-table"
    return write_dicom_slide(folder, rgb=picture(SIDE, SIDE), levels=2, label=True)


def give_pixels(image: SlideImage) -> SlideImage:
    """Point the unsaved row at the slide and save it. All rows may share the file."""
    image.source_format = SlideImage.Format.DICOM
    image.path = str(_written().relative_to(settings.DATA_DIR))
    image.width_l0 = image.height_l0 = SIDE
    image.level_count, image.has_label_image = 2, True
    uids = dicom_uids(image.pk)
    image.study_instance_uid, image.series_instance_uid = uids["study_uid"], uids["series_uid"]
    image.save()
    SlideInstance.objects.create(
        department=image.department,
        slide_image=image,
        sop_instance_uid=uids["sop_uid"],
        sha256="0" * 64,
        flavor=SlideInstance.Flavor.VOLUME,
        file_name="level-0.dcm",
        size_bytes=(_written() / "level-0.dcm").stat().st_size,
        total_columns=SIDE,
        total_rows=SIDE,
        frame_count=4,
        transfer_syntax_uid="1.2.840.10008.1.2.4.50",
    )
    return image


def dicom_uids(pk: UUID) -> dict[str, str]:
    """Return the UIDs of the slide image's study, series and only instance, by its row's id."""
    return {
        "study_uid": related_uid(pk, "study"),
        "series_uid": uid_of(pk),
        "sop_uid": instance_uid(pk, 1),
    }


def put_studies(world: Any) -> None:
    """Add the study UID of each slide image to the world."""
    images = world.ids["slide_image"].items()
    world.ids["study_uid"] = {place: dicom_uids(pk)["study_uid"] for place, pk in images}
