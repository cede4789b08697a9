"""Tokens: scopes, departments, the command that makes them."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from cases.models import AccessEvent, ApiToken, Membership
from cases.permissions import Role
from cases.services.tokens import token_revoke
from tests.cases.api.conftest import client_with_token
from tests.factories import CaseFactory

Scope = ApiToken.Scope


def make(*arguments):
    out = StringIO()
    call_command("create_token", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def client(key):
    made = APIClient()
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return made


def test_the_command_prints_a_key_that_works_and_keeps_only_its_hash(site):
    key = make(site.pathologist.username, "--name", "LIS", "--scope", "cases:read")
    assert client(key).get("/api/v1/cases/").status_code == 200
    token = ApiToken.objects.get(name="LIS")
    assert key not in str(ApiToken.objects.filter(pk=token.pk).values().get())
    event = AccessEvent.objects.get(object_id=str(token.pk))
    assert (event.action, event.channel) == ("create", "command")
    token_revoke(token=token, user=site.pathologist)
    assert client(key).get("/api/v1/cases/").status_code == 401


@pytest.mark.parametrize(
    "arguments",
    [
        ("nobody", "--name", "x", "--scope", "cases:read"),
        ("{me}", "--name", "x", "--scope", "everything"),
        ("{me}", "--name", "x", "--scope", "cases:read", "--department", "south"),
        ("{me}", "--name", "x", "--scope", "cases:read", "--days", "0"),
        ("{me}", "--name", "x" * 121, "--scope", "cases:read"),
    ],
)
def test_the_command_refuses(site, arguments):
    before = ApiToken.objects.count()
    with pytest.raises(CommandError):
        make(*(a.format(me=site.pathologist.username) for a in arguments))
    assert ApiToken.objects.count() == before


@pytest.mark.parametrize("scope", Scope.values)
def test_a_scope_opens_its_own_routes_only(site, scope):
    caller = client_with_token(site.pathologist, scopes=[scope])
    assert (caller.get("/api/v1/cases/").status_code == 200) == (scope == Scope.CASES_READ)
    assert (caller.get("/api/v1/cohorts/").status_code == 200) == (scope == Scope.COHORTS_READ)
    write = caller.post("/api/v1/cases/", {}, format="json").status_code
    assert write == (400 if scope == Scope.CASES_WRITE else 403)
    write = caller.post("/api/v1/cohorts/", {}, format="json").status_code
    assert write == (400 if scope == Scope.COHORTS_WRITE else 403)


def test_a_narrowed_token_sees_one_of_its_owners_departments(site):
    Membership.objects.create(user=site.pathologist, department=site.south, role=Role.PATHOLOGIST)
    north, south = CaseFactory(department=site.north), CaseFactory(department=site.south)
    wide = client_with_token(site.pathologist)
    narrow = client_with_token(site.pathologist, departments=[site.south])

    def seen(caller):
        return {row["id"] for row in caller.get("/api/v1/cases/").json()["results"]}

    assert seen(wide) == {str(north.pk), str(south.pk)}
    assert seen(narrow) == {str(south.pk)}
    assert narrow.get(f"/api/v1/cases/{north.pk}/").status_code == 404
    codes = [row["code"] for row in narrow.get("/api/v1/departments/").json()["results"]]
    assert codes == ["south"]


def test_a_token_lives_no_longer_than_its_owners_membership(site):
    CaseFactory(department=site.north)
    assert site.lis.get("/api/v1/cases/").json()["count"] == 1
    site.pathologist.memberships.all().delete()
    assert site.lis.get("/api/v1/cases/").json()["count"] == 0
    site.pathologist.is_active = False
    site.pathologist.save()
    assert site.lis.get("/api/v1/cases/").status_code == 401


def test_a_narrowed_token_whose_departments_are_gone_opens_nothing(site):
    CaseFactory(department=site.north)
    narrow = client_with_token(site.pathologist, departments=[site.south])
    ApiToken.objects.get(is_narrowed=True).departments.clear()
    assert narrow.get("/api/v1/cases/").json()["results"] == []
