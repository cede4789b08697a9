"""Routes of DICOMweb. Names have a dash: tokens work there, and errors are problem+json."""

from django.urls import include, path

from cases.dicomweb.base import UnknownDicomWebRoute
from cases.dicomweb.qido import SearchInstances, SearchSeries
from cases.dicomweb.studies import StudiesView, StudyView

urlpatterns = [
    path("studies", StudiesView.as_view(), name="dicomweb-studies"),
    path("studies/<str:study_uid>", StudyView.as_view(), name="dicomweb-study"),
    path("series", SearchSeries.as_view(), name="dicomweb-series"),
    path("instances", SearchInstances.as_view(), name="dicomweb-instances"),
    path("studies/<str:study_uid>/series", SearchSeries.as_view(), name="dicomweb-series-of-study"),
    path(
        "studies/<str:study_uid>/instances",
        SearchInstances.as_view(),
        name="dicomweb-instances-of-study",
    ),
    path(
        "studies/<str:study_uid>/series/<str:series_uid>/instances",
        SearchInstances.as_view(),
        name="dicomweb-instances-of-series",
    ),
    path("studies/<str:study_uid>/", include("cases.dicomweb.retrieve_urls")),
    path("", UnknownDicomWebRoute.as_view(), name="dicomweb-unknown"),
    path("<path:rest>", UnknownDicomWebRoute.as_view(), name="dicomweb-unknown-route"),
]
