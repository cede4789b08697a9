"""Routes of WADO-RS below `/dicomweb/studies/{study}/`."""

from django.urls import path

from cases.dicomweb.render import RenderFrames, RenderInstance, Thumbnail
from cases.dicomweb.retrieve import (
    RetrieveBulkData,
    RetrieveFrames,
    RetrieveMetadata,
    RetrieveObjects,
)

_SERIES = "series/<str:series_uid>"
_INSTANCE = f"{_SERIES}/instances/<str:sop_uid>"
_FRAMES = f"{_INSTANCE}/frames/<str:frames>"

urlpatterns = [
    path("metadata", RetrieveMetadata.as_view(), name="dicomweb-study-metadata"),
    path("thumbnail", Thumbnail.as_view(), name="dicomweb-study-thumbnail"),
    path(_SERIES, RetrieveObjects.as_view(), name="dicomweb-one-series"),
    path(f"{_SERIES}/metadata", RetrieveMetadata.as_view(), name="dicomweb-series-metadata"),
    path(f"{_SERIES}/thumbnail", Thumbnail.as_view(), name="dicomweb-series-thumbnail"),
    path(_INSTANCE, RetrieveObjects.as_view(), name="dicomweb-instance"),
    path(f"{_INSTANCE}/metadata", RetrieveMetadata.as_view(), name="dicomweb-instance-metadata"),
    path(f"{_INSTANCE}/thumbnail", Thumbnail.as_view(), name="dicomweb-instance-thumbnail"),
    path(f"{_INSTANCE}/rendered", RenderInstance.as_view(), name="dicomweb-instance-rendered"),
    path(f"{_INSTANCE}/bulkdata/<path:path>", RetrieveBulkData.as_view(), name="dicomweb-bulkdata"),
    path(_FRAMES, RetrieveFrames.as_view(), name="dicomweb-frames"),
    path(f"{_FRAMES}/rendered", RenderFrames.as_view(), name="dicomweb-frames-rendered"),
]
