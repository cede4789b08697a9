"""Pixels that say whose they are, kept from readers who may not know."""

from django.db.models import Q
from django.http import Http404

from cases import identity
from cases.models import SlideImage, SlideInstance, SlideInstanceHeader

# Burned In Annotation, Specimen Label in Image (PS3.3 C.7.6.3, C.8.12.4).
_SAYS_SO = Q(attributes__contains={"00280301": {"Value": ["YES"]}}) | Q(
    attributes__contains={"00480010": {"Value": ["YES"]}}
)
_TISSUE = (SlideInstance.Flavor.VOLUME, SlideInstance.Flavor.THUMBNAIL)


def shows_identity(slide_image: SlideImage) -> bool:
    """Return whether the slide is veiled, and its own header says that its pixels tell whose."""
    if not identity.is_veiled(slide_image):
        return False
    headers = SlideInstanceHeader.objects.filter(
        instance__slide_image=slide_image.pk, instance__flavor__in=_TISSUE
    )
    return headers.filter(_SAYS_SO).exists()


def require_clean(slide_image: SlideImage) -> None:
    """Raise Http404 for such a slide: there is no picture of it for this reader."""
    if shows_identity(slide_image):
        raise Http404("The pixels of this slide show whose it is.")
