"""Pages of the cases app."""

from django.urls import path

from cases.views import health, session, work_list

urlpatterns = [
    path("", work_list.work_list, name="work_list"),
    path("login/", session.login, name="login"),
    path("logout/", session.logout, name="logout"),
    path("healthz/", health.healthz, name="healthz"),
]
