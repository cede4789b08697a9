"""Routes of DICOMweb. Names have a dash: tokens work there, and errors are problem+json."""

from django.urls import path

from cases.dicomweb.base import UnknownDicomWebRoute

urlpatterns = [
    path("", UnknownDicomWebRoute.as_view(), name="dicomweb-unknown"),
    path("<path:rest>", UnknownDicomWebRoute.as_view(), name="dicomweb-unknown-route"),
]
