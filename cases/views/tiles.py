"""The pixels of a slide: pyramid, tiles, thumbnail, regions, label. Hidden is 404 for each."""

from collections.abc import Callable
from uuid import UUID

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.views.decorators.http import require_safe

from cases import permissions
from cases.models import SlideImage
from cases.openings import way_in_to
from cases.services import pixels
from cases.services.audit import Action, access_event_record
from cases.services.looks import slide_view_record

# Pixels of a slide never change; how long a browser keeps them is a matter of privacy.
MAX_AGE_SECONDS = 3600


class RegionForm(forms.Form):
    """A rectangle in level-0 pixels and the length of the picture's longer side."""

    x = forms.IntegerField(min_value=0)
    y = forms.IntegerField(min_value=0)
    width = forms.IntegerField(min_value=1)
    height = forms.IntegerField(min_value=1)
    size = forms.IntegerField(min_value=1, max_value=pixels.REGION_MAX_PX, required=False)


@login_required
@require_safe
def slide_dzi(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Describe the slide's tile pyramid; who asks for it is about to look at the slide."""
    slide_image = SlideImage.objects.get_visible_or_404(request.user, pk=pk)
    slide_view_record(user=request.user, slide_image=slide_image)
    xml = pixels.slide_deep_zoom(slide_image).dzi_xml()
    response = HttpResponse(xml, content_type="application/xml")
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@login_required
@require_safe
def slide_tile(request: HttpRequest, pk: UUID, z_level: int, column: int, row: int) -> HttpResponse:
    """Send one tile; with ?colours=corrected in sRGB by the slide's ICC profile."""
    slide_image = SlideImage.objects.get_visible_or_404(request.user, pk=pk)
    is_corrected = request.GET.get("colours") == "corrected"
    return _jpeg_response(
        request,
        slide_image,
        f"{z_level}-{column}-{row}{'-corrected' if is_corrected else ''}",
        lambda: pixels.tile_jpeg(slide_image, z_level, column, row, is_corrected=is_corrected),
    )


@login_required
@require_safe
def slide_thumbnail(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the whole slide, small and without its label."""
    slide_image = SlideImage.objects.get_visible_or_404(request.user, pk=pk)
    return _jpeg_response(
        request, slide_image, "thumbnail", lambda: pixels.thumbnail_jpeg(slide_image)
    )


@login_required
@require_safe
def slide_region(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send a rectangle of the slide, at most pixels.REGION_MAX_PX long."""
    slide_image = SlideImage.objects.get_visible_or_404(request.user, pk=pk)
    form = RegionForm(request.GET)
    if not form.is_valid():
        raise pixels.BadRegion
    asked = {**form.cleaned_data, "size": form.cleaned_data["size"] or pixels.REGION_MAX_PX}
    return _jpeg_response(
        request,
        slide_image,
        "region-{x}-{y}-{width}-{height}-{size}".format(**asked),
        lambda: pixels.region_jpeg(slide_image, **asked),
    )


@login_required
@require_safe
def slide_label(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the photo of the printed label to who may see it; each look is recorded."""
    slide_image = SlideImage.objects.select_related("slide__case").get_visible_or_404(
        request.user, pk=pk
    )
    permissions.require(request.user, "view_label", slide_image.department_id)
    jpeg = pixels.label_jpeg(slide_image)
    access_event_record(
        user=request.user,
        action=Action.VIEW,
        department_id=slide_image.department_id,
        patient_id=slide_image.slide.case.patient_id,
        target=slide_image,
        detail={"part": "label"},
    )
    return HttpResponse(jpeg, content_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _jpeg_response(
    request: HttpRequest, slide_image: SlideImage, name: str, make: Callable[[], bytes]
) -> HttpResponse:
    """Return the picture, or 304 where the browser has it. Rights were checked before."""
    etag = f'"{slide_image.content_sha256[:16]}-{name}"'
    # What is open for an hour or until a date must not stay in the browser after that.
    is_opened = way_in_to(request.user, slide_image) is not None
    kept = "no-store" if is_opened else f"private, max-age={MAX_AGE_SECONDS}"
    headers = {"Cache-Control": kept, "ETag": etag}
    if etag in request.headers.get("If-None-Match", ""):
        return HttpResponseNotModified(headers=headers)
    return HttpResponse(make(), content_type="image/jpeg", headers=headers)
