"""The administration: rows and rights of each kind of administrator."""

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse

from cases.models import AccessEvent, ApiToken, Membership
from cases.permissions import Role
from cases.services.tokens import token_find
from tests.factories import ReportFactory, UserFactory, make_member, make_slide_image

CLINICAL = ["patient", "case", "specimen", "slide", "report", "slideimage", "cohort", "slideupload"]


def listing(name: str, app: str = "cases") -> str:
    return reverse(f"admin:{app}_{name}_changelist")


@pytest.fixture
def system(cast):
    return cast.client(None, Role.SYSTEM_ADMINISTRATOR)


@pytest.fixture
def northern(cast):
    return cast.client(cast.north, Role.DEPARTMENT_ADMINISTRATOR)


@pytest.mark.parametrize("role", [Role.PATHOLOGIST, Role.TECHNICIAN, Role.RESEARCHER])
def test_it_lets_in_nobody_else(cast, role):
    response = cast.client(cast.north, role).get(reverse("admin:index"), follow=True)
    assert response.redirect_chain[-1][0] == reverse("work_list")


@pytest.mark.parametrize("name", CLINICAL)
def test_who_runs_the_site_sees_no_clinical_rows(cast, system, client, name):
    image = make_slide_image(cast.north)
    superuser = UserFactory(is_superuser=True, is_staff=True)
    client.force_login(superuser)
    for browser in (system, client):
        assert browser.get(listing(name)).status_code == 403
        page = reverse("admin:cases_slideimage_change", args=[image.pk])
        assert browser.get(page).status_code in {302, 403, 404}


def rows(response) -> set:
    assert response.status_code == 200
    return {row.pk for row in response.context["cl"].result_list}


def test_a_department_sees_its_own_rows_only_and_looks_are_recorded(cast, northern):
    own, foreign = make_slide_image(cast.north), make_slide_image(cast.south)
    assert rows(northern.get(listing("slideimage"))) == {own.pk}
    assert rows(northern.get(listing("case"))) == {own.slide.case.pk}
    assert rows(northern.get(listing("department"))) == {cast.north.pk}
    change = "admin:cases_case_change"
    assert northern.get(reverse(change, args=[foreign.slide.case.pk])).status_code == 302
    assert northern.get(reverse(change, args=[own.slide.case.pk])).status_code == 200
    seen = AccessEvent.objects.filter(action="view").values_list("patient_id", flat=True)
    assert set(seen) == {own.slide.case.patient_id}


def test_clinical_rows_are_not_changed_here(cast, northern):
    report = ReportFactory(case=make_slide_image(cast.north).slide.case)
    url = reverse("admin:cases_report_change", args=[report.pk])
    assert northern.post(url, {"diagnosis_line": "Changed"}).status_code == 403
    assert northern.get(reverse("admin:cases_report_add")).status_code == 403
    assert northern.post(reverse("admin:cases_report_delete", args=[report.pk])).status_code == 403
    report.refresh_from_db()
    assert report.diagnosis_line != "Changed"


def membership(user, role, department) -> dict:
    return {"user": user.pk, "role": role, "department": department.pk if department else ""}


def test_a_department_gives_its_own_roles_only(cast, northern):
    member = make_member(cast.north, Role.TECHNICIAN)
    stranger = make_member(cast.south, Role.TECHNICIAN)
    url = reverse("admin:cases_membership_add")
    refused = [
        membership(member, Role.PATHOLOGIST, cast.south),
        membership(member, Role.SYSTEM_ADMINISTRATOR, None),
        membership(member, Role.SYSTEM_ADMINISTRATOR, cast.north),
        membership(stranger, Role.PATHOLOGIST, cast.north),
    ]
    before = Membership.objects.count()
    for data in refused:
        assert northern.post(url, data).status_code == 200, data
    assert Membership.objects.count() == before
    data = membership(member, Role.PATHOLOGIST, cast.north)
    assert northern.post(url, data).status_code == 302
    assert member.memberships.filter(role=Role.PATHOLOGIST, department=cast.north).exists()
    assert AccessEvent.objects.filter(action="create", object_type="membership").count() == 1


def new_account(department, role=Role.TECHNICIAN) -> dict:
    return {
        "username": "newcomer",
        "password1": "a long enough one",
        "password2": "a long enough one",
        "usable_password": "true",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-department": department.pk if department else "",
        "memberships-0-role": role,
    }


def test_a_department_makes_accounts_for_itself(cast, northern):
    url = reverse("admin:auth_user_add")
    assert northern.post(url, new_account(cast.south)).status_code == 200
    assert northern.post(url, new_account(None)).status_code == 200
    assert not get_user_model().objects.filter(username="newcomer").exists()
    assert northern.post(url, new_account(cast.north)).status_code == 302
    newcomer = get_user_model().objects.get(username="newcomer")
    assert [m.department for m in newcomer.memberships.all()] == [cast.north]
    assert not newcomer.is_superuser


def test_nobody_sets_the_password_of_who_has_more_rights(cast, northern, system):
    both = make_member(cast.north, Role.PATHOLOGIST)
    Membership.objects.create(user=both, department=cast.south, role=Role.PATHOLOGIST)
    superuser = UserFactory(is_superuser=True)
    Membership.objects.create(user=superuser, department=cast.north, role=Role.PATHOLOGIST)
    own = make_member(cast.north, Role.PATHOLOGIST)
    url = "admin:auth_user_password_change"
    assert northern.get(reverse(url, args=[own.pk])).status_code == 200
    assert northern.get(reverse(url, args=[both.pk])).status_code == 403
    assert northern.get(reverse(url, args=[superuser.pk])).status_code == 403
    assert system.get(reverse(url, args=[both.pk])).status_code == 200
    assert system.get(reverse(url, args=[superuser.pk])).status_code == 403


def test_a_token_is_made_by_the_service_and_its_key_is_shown_once(cast, northern):
    member = make_member(cast.north, Role.TECHNICIAN)
    data = {
        "user": member.pk,
        "name": "LIS",
        "scopes": [ApiToken.Scope.CASES_READ],
        "departments": [cast.north.pk],
        "expires_at_0": "2099-01-01",
        "expires_at_1": "00:00",
    }
    url = reverse("admin:cases_apitoken_add")
    assert northern.post(url, {**data, "departments": [cast.south.pk]}).status_code == 200
    assert northern.post(url, {**data, "departments": []}).status_code == 200
    assert not ApiToken.objects.exists()
    page = northern.post(url, data, follow=True)
    token = ApiToken.objects.get()
    message = str(next(m for m in page.context["messages"] if "shown only now" in str(m)))
    assert token_find(message.split()[-1]) == token
    assert list(token.departments.all()) == [cast.north]
    again = northern.get(listing("apitoken"))
    assert message.split()[-1].encode() not in again.content
    northern.post(listing("apitoken"), {"action": "revoke", "_selected_action": [token.pk]})
    assert token_find(message.split()[-1]) is None


def test_a_token_beyond_the_department_is_not_its_business(cast, northern):
    member = make_member(cast.north, Role.TECHNICIAN)
    token = ApiToken.objects.create(
        user=member, name="All", prefix="aaaa", scopes=[], expires_at="2099-01-01T00:00Z"
    )
    assert rows(northern.get(listing("apitoken"))) == set()
    token.departments.set([cast.north, cast.south])
    assert rows(northern.get(listing("apitoken"))) == set()
    token.departments.set([cast.north])
    assert rows(northern.get(listing("apitoken"))) == {token.pk}


def test_the_audit_is_read_only_and_divided(cast, northern, system):
    own = AccessEvent.objects.create(action="view", channel="page", department_id=cast.north.pk)
    AccessEvent.objects.create(action="view", channel="page", department_id=cast.south.pk)
    assert rows(northern.get(listing("accessevent"))) == {own.pk}
    assert len(rows(system.get(listing("accessevent")))) >= 2
    url = reverse("admin:cases_accessevent_delete", args=[own.pk])
    assert system.post(url, {"post": "yes"}).status_code == 403
    url = reverse("admin:cases_accessevent_change", args=[own.pk])
    assert system.post(url, {"action": "create"}).status_code == 403
