"""Drawing on slides: keeping, changing and removing regions and measurements."""

from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from cases import permissions
from cases.errors import Conflict, DomainError
from cases.models import SlideImage, SlideRegion
from cases.services.audit import Action, access_event_record
from cases.wsi import outlines

REGIONS_MOST = 500


class RegionRefused(DomainError):
    """The points are no outline on this slide."""

    http_status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "bad_outline"


class TooManyRegions(DomainError):
    """A slide with thousands of outlines can neither be read nor shown."""

    http_status = HTTPStatus.CONFLICT
    code = "too_many_regions"
    message = _("This slide has 500 regions. Remove some first.")


def region_create(
    *, user: Any, slide_image: SlideImage, kind: str, points: Any, name: str = "", note: str = ""
) -> SlideRegion:
    """Keep an outline or a line on the slide."""
    permissions.require(user, "draw_region", slide_image.department_id)
    kept = _outline(slide_image, kind, points)
    with transaction.atomic():
        if SlideRegion.objects.filter(slide_image=slide_image).count() >= REGIONS_MOST:
            raise TooManyRegions
        region = SlideRegion.objects.create(
            slide_image=slide_image,
            department_id=slide_image.department_id,
            author=user,
            kind=kind,
            points=kept,
            name=name,
            note=note,
        )
        _record(user, Action.CREATE, region)
    return region


def region_change(
    *, user: Any, region: SlideRegion, known: datetime | None, data: dict[str, Any]
) -> SlideRegion:
    """Change one's own region. known: `updated_at` as the caller last saw it, if they say so."""
    _require_own(user, region)
    with transaction.atomic():
        row = SlideRegion.objects.select_for_update(of=("self",)).get(pk=region.pk)
        if known is not None and row.updated_at != known:
            raise Conflict(str(_("It was changed meanwhile: load it again.")), code="changed")
        if "points" in data:
            row.points = _outline(region.slide_image, row.kind, data["points"])
        for name in ("name", "note"):
            if name in data:
                setattr(row, name, data[name])
        row.save()
        _record(user, Action.CHANGE, row)
    return row


def region_remove(*, user: Any, region: SlideRegion) -> None:
    """Remove one's own region; a department administrator any of the department's."""
    if not permissions.may(user, "manage_members", region.department_id):
        _require_own(user, region)
    with transaction.atomic():
        _record(user, Action.DELETE, region)
        SlideRegion.objects.filter(pk=region.pk).delete()


def _require_own(user: Any, region: SlideRegion) -> None:
    permissions.require(user, "draw_region", region.department_id)
    if region.author_id != user.pk:
        raise PermissionDenied(str(_("Only who drew it changes it.")))


def _outline(slide_image: SlideImage, kind: str, points: Any) -> list[list[int]]:
    try:
        return outlines.outline(kind, points, slide_image.width_l0, slide_image.height_l0)
    except outlines.BadOutline as error:
        raise RegionRefused(str(error)) from error


def _record(user: Any, action: str, region: SlideRegion) -> None:
    access_event_record(
        user=user,
        action=action,
        department_id=region.department_id,
        patient_id=region.slide_image.slide.case.patient_id,
        target=region,
        detail={"kind": region.kind, "slide_image": str(region.slide_image_id)},
    )
