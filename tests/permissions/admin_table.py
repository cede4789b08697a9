"""The table of the administration: every registered model, every site route.

Letters: S system administrator, U superuser, D department administrator. Everybody else is
sent to the sign-in. A department administrator reaches rows of the own department only; the
two others reach no clinical row at all.
"""

from dataclasses import dataclass

SITE = frozenset("SU")
LETTERS = {"system_administrator": "S", "superuser": "U", "department_administrator": "D"}


@dataclass(frozen=True)
class AdminRow:
    """Who may view, add and delete rows of one model. kind: of the world's objects, if any."""

    view: str
    add: str = ""
    delete: str = ""
    kind: str = ""

    @property
    def is_clinical(self) -> bool:
        """Return whether the rows are the departments' own."""
        return self.view == "D"


ADMIN = {
    "cases.department": AdminRow("SUD", add="SU", kind="department_pk"),
    "cases.membership": AdminRow("SUD", add="SUD", delete="SUD", kind="membership"),
    "auth.user": AdminRow("SUD", add="SUD", kind="user"),
    "cases.apitoken": AdminRow("SUD", add="SUD", kind="api_token"),
    "cases.accessevent": AdminRow("SUD", kind="access_event"),
    "cases.patient": AdminRow("D", kind="patient"),
    "cases.case": AdminRow("D", kind="case"),
    "cases.specimen": AdminRow("D", kind="specimen"),
    "cases.slide": AdminRow("D", kind="slide"),
    "cases.report": AdminRow("D", kind="report"),
    "cases.slideimage": AdminRow("D", kind="slide_image"),
    "cases.dicompeer": AdminRow("SU", add="SU", delete="SU"),
    "cases.storagecommitment": AdminRow("SU"),
    "cases.cohort": AdminRow("D", kind="cohort"),
    "cases.exportproject": AdminRow("D", kind="export_project"),
    "cases.export": AdminRow("D", kind="export"),
    "cases.slideupload": AdminRow("D", kind="upload"),
    "retrieval.slideindex": AdminRow("D", kind="index"),
    "retrieval.searchquery": AdminRow("D", kind="search"),
    "retrieval.departmentterm": AdminRow("D", add="D", delete="D", kind="term"),
    "retrieval.embeddingmodel": AdminRow("SU"),
    "retrieval.searchselfcheck": AdminRow("SU"),
    "retrieval.searchcosts": AdminRow("SU"),
    "mfa.authenticator": AdminRow("SU", delete="SU"),
    "usersessions.usersession": AdminRow("SU", delete="SU"),
    "axes.accessattempt": AdminRow("U", delete="U"),
    "axes.accesslog": AdminRow("U", delete="U"),
    "axes.accessfailurelog": AdminRow("U", delete="U"),
    "django_q.schedule": AdminRow("U", add="U", delete="U"),
    "django_q.success": AdminRow("U", delete="U"),
    "django_q.failure": AdminRow("U", delete="U"),
    "django_q.ormq": AdminRow("U", delete="U"),
}

# Route -> (its keywords, status for who is let in). view_on_site: no model has a page for it.
SITE_ROUTES = {
    "index": ({}, {"S": 200, "U": 200, "D": 200}),
    "login": ({}, {"S": 302, "U": 302, "D": 302}),
    "logout": ({}, {"S": 405, "U": 405, "D": 405}),  # by POST only
    "password_change": ({}, {"S": 200, "U": 200, "D": 200}),
    "password_change_done": ({}, {"S": 200, "U": 200, "D": 200}),
    "jsi18n": ({}, {"S": 200, "U": 200, "D": 200}),
    "autocomplete": ({}, {"S": 403, "U": 403, "D": 403}),
    "view_on_site": (
        {"content_type_id": 0, "object_id": 0},
        {"S": 404, "U": 404, "D": 404},
    ),
    "app_list": ({"app_label": "axes"}, {"S": 404, "U": 200, "D": 404}),
}
