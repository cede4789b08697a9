"""The slide viewer."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases import permissions, selectors
from cases.models import SlideImage
from cases.openings import opening_of
from cases.services.looks import slide_view_record
from cases.services.slide_readers import SlideUnreadable, slide_reader

# Magnifications that the viewer has buttons and keys for.
POWERS = (2, 5, 10, 20, 40)


@login_required
@require_safe
def slide(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the slide with what is known of its scan, beside the case's other slides."""
    slide_image = SlideImage.objects.select_related(
        "department", "slide__specimen", "slide__block", "slide__case__patient"
    ).get_visible_or_404(request.user, pk=pk)
    slide_view_record(user=request.user, slide_image=slide_image)
    case = slide_image.slide.case
    unreadable, has_own_colours = _state(slide_image)
    context = {
        "slide_image": slide_image,
        "slide": slide_image.slide,
        "case": case,
        "patient": case.patient,
        "report": selectors.current_report(request.user, case),
        "opening": opening_of(request.user, case.pk),
        "powers": POWERS,
        "tray": selectors.slide_images_of_case(request.user, case),
        "unreadable": unreadable,
        "has_own_colours": has_own_colours,
        "may_export_this": permissions.may(
            request.user, "export_deidentified", slide_image.department_id
        ),
        "may_draw": permissions.may(request.user, "draw_region", slide_image.department_id),
        "may_view_label": permissions.may(request.user, "view_label", slide_image.department_id),
    }
    return render(request, "cases/slide.html", context)


def _state(slide_image: SlideImage) -> tuple[SlideUnreadable | None, bool]:
    """Return why the viewer would stay empty, or None, and whether an ICC profile changes colours.

    Opens the slide for the first tile too.
    """
    try:
        with slide_reader(slide_image) as reader:
            return None, reader.correction is not None
    except SlideUnreadable as error:
        return error, False
