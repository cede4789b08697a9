"""The permission table's rows of regions on slides; who drew one: tests/cases/api/test_regions."""

from typing import Any

from cases.models import SlideImage, SlideRegion
from tests.factories import UserFactory
from tests.permissions.row import Row

POINTS = [[0, 0], [64, 0], [64, 64], [0, 64]]


def put_region(world: Any, place: str, image: SlideImage) -> None:
    """Add a region on the slide of the place, of somebody who is no actor."""
    region = SlideRegion.objects.create(
        slide_image=image,
        department=image.department,
        author=UserFactory(),
        kind="rectangle",
        points=POINTS,
        name=f"Region-{place}",
        note=f"Region-note-{place}",
    )
    world.put("region", place, region, region.name, region.note)


def _on_slide(world: Any, place: str) -> dict[str, Any]:
    return {"slide_image_pk": world.id("slide_image", place)}


def _region(world: Any, place: str) -> dict[str, Any]:
    return {**_on_slide(world, place), "pk": world.id("region", place)}


def _new(_world: Any, _place: str) -> dict[str, Any]:
    return {"kind": "rectangle", "points": POINTS}


REGIONS = [
    Row("slide-regions-list", of="slide_image", url=_on_slide),
    Row(
        "slide-regions-list",
        "POST",
        of="slide_image",
        url=_on_slide,
        body=_new,
        roles="PTD",
        ok=201,
        partner="denied",
    ),
    Row("slide-regions-detail", of="region", url=_region),
    Row(
        "slide-regions-detail",
        "PATCH",
        of="region",
        url=_region,
        body=lambda _world, _place: {"name": "Other"},
        roles="",
    ),
    Row(
        "slide-regions-detail",
        "DELETE",
        of="region",
        url=_region,
        roles="D",
        ok=204,
        partner="denied",
    ),
]
