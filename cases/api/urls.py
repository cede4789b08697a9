"""API routes of the cases app."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from cases.api import boards, cohorts, consults, exports, merges, regions, tus, uploads, views
from cases.api.audited import UUID_PATTERN

router = SimpleRouter()
router.register("departments", views.DepartmentViewSet, basename="departments")
router.register("patients", views.PatientViewSet, basename="patients")
router.register("cases", views.CaseViewSet, basename="cases")
router.register("slides", views.SlideViewSet, basename="slides")
router.register("slide-images", views.SlideImageViewSet, basename="slide-images")
router.register(
    f"slide-images/(?P<slide_image_pk>{UUID_PATTERN})/regions",
    regions.SlideRegionViewSet,
    basename="slide-regions",
)
router.register("reports", views.ReportViewSet, basename="reports")
router.register("cohorts", cohorts.CohortViewSet, basename="cohorts")
router.register(
    f"cohorts/(?P<cohort_pk>{UUID_PATTERN})/entries",
    cohorts.CohortEntryViewSet,
    basename="cohort-entries",
)
router.register("boards", boards.BoardViewSet, basename="boards")
router.register(
    f"boards/(?P<board_pk>{UUID_PATTERN})/items", boards.BoardItemViewSet, basename="board-items"
)
router.register("consults", consults.ConsultViewSet, basename="consults")
router.register("exports", exports.ExportViewSet, basename="exports")
router.register("export-projects", exports.ExportProjectViewSet, basename="export-projects")
router.register("uploads", uploads.UploadViewSet, basename="uploads")
router.register(
    f"uploads/(?P<upload_pk>{UUID_PATTERN})/files",
    uploads.UploadFileViewSet,
    basename="upload-files",
)

urlpatterns = [
    path("hl7/", merges.Hl7View.as_view(), name="hl7-message"),
    path("tus/", tus.TusCreateView.as_view(), name="tus-list"),
    path("tus/<uuid:pk>/", tus.TusFileView.as_view(), name="tus-detail"),
    *router.urls,
]
