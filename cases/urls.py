"""Pages of the cases app."""

from django.urls import path

from cases.views import case, cohorts, health, session, slide, tiles, unmatched, uploads, work_list

urlpatterns = [
    path("", work_list.work_list, name="work_list"),
    path("cases/<uuid:pk>/", case.case, name="case"),
    path("slides/<uuid:pk>/", slide.slide, name="slide"),
    path("slides/<uuid:pk>/image.dzi", tiles.slide_dzi, name="slide_dzi"),
    path(
        "slides/<uuid:pk>/image_files/<int:z_level>/<int:column>_<int:row>.jpeg",
        tiles.slide_tile,
        name="slide_tile",
    ),
    path("slides/<uuid:pk>/thumbnail.jpeg", tiles.slide_thumbnail, name="slide_thumbnail"),
    path("slides/<uuid:pk>/label.jpeg", tiles.slide_label, name="slide_label"),
    path("slides/<uuid:pk>/region.jpeg", tiles.slide_region, name="slide_region"),
    path("cohorts/", cohorts.cohorts, name="cohorts"),
    path("cohorts/new/", cohorts.cohort_new, name="cohort_new"),
    path("cohorts/<uuid:pk>/", cohorts.cohort, name="cohort"),
    path("cohorts/<uuid:pk>/add/", cohorts.cohort_add, name="cohort_add"),
    path("cohorts/<uuid:pk>/remove/", cohorts.cohort_remove, name="cohort_remove"),
    path("cohorts/<uuid:pk>/share/", cohorts.cohort_share, name="cohort_share"),
    path("cohorts/<uuid:pk>/export.csv", cohorts.cohort_export, name="cohort_export"),
    path("uploads/", uploads.uploads, name="uploads"),
    path("uploads/new/", uploads.upload_new, name="upload_new"),
    path("uploads/<uuid:pk>/", uploads.upload, name="upload"),
    path("uploads/<uuid:pk>/retry/", uploads.upload_retry, name="upload_retry"),
    path("uploads/<uuid:pk>/cancel/", uploads.upload_cancel, name="upload_cancel"),
    path("unmatched/", unmatched.unmatched, name="unmatched"),
    path("unmatched/<uuid:pk>/", unmatched.unmatched_item, name="unmatched_item"),
    path("login/", session.login, name="login"),
    path("logout/", session.logout, name="logout"),
    path("password/", session.password, name="password"),
    path("healthz/", health.healthz, name="healthz"),
]
