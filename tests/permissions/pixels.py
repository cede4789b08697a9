"""One tiny real slide, with a label, behind each slide image of the world."""

from functools import cache
from pathlib import Path

from django.conf import settings

from cases.models import SlideImage
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
    image.save()
    return image
