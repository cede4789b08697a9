"""Tokens of machines: from where, how often, how long, and never more than their owner."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from cases.api.throttles import CallerThrottle, OwnerThrottle
from cases.errors import Conflict
from cases.models import AccessEvent, ApiToken, Membership
from cases.permissions import Role
from cases.services.tokens import token_create, token_find, token_revoke, token_rotate
from tests.accounts.conftest import signed_in
from tests.factories import CaseFactory, DepartmentFactory, UserFactory, make_member

pytestmark = pytest.mark.django_db
ALL = tuple(ApiToken.Scope.values)


@pytest.fixture
def north():
    return DepartmentFactory(code="north")


@pytest.fixture
def owner(north):
    return make_member(north, Role.PATHOLOGIST)


def client_of(key, address="127.0.0.1") -> APIClient:
    client = APIClient(REMOTE_ADDR=address)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


def make(user, **more):
    return token_create(user=user, name="LIS", scopes=more.pop("scopes", ALL), **more)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("10.1.2.77", 200),
        ("::ffff:10.1.2.77", 200),
        ("192.0.2.9", 200),
        ("2001:db8::5", 200),
        ("10.1.3.1", 401),
        ("::1", 401),
        ("", 401),
    ],
)
def test_it_works_from_its_addresses_alone(owner, address, status):
    token, key = make(owner, addresses=["10.1.2.0/24", "192.0.2.9", "2001:db8::/32"])
    assert client_of(key, address).get("/api/v1/cases/").status_code == status
    events = AccessEvent.objects.filter(action="login_failed", object_id=str(token.pk))
    assert events.count() == (status == 401)
    token.refresh_from_db()
    assert (token.last_used_at is not None) == (status == 200)
    if address.startswith("192"):
        assert token.last_used_from == address


def test_a_claimed_address_does_not_help(owner):
    _token, key = make(owner, addresses=["10.1.2.0/24"])
    client = client_of(key, "192.0.2.1")
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        answer = client.get("/api/v1/cases/", headers={name: "10.1.2.5"})
        assert answer.status_code == 401, name


@pytest.mark.parametrize("bad", ["10.1.2.0/99", "example.org", "10.1.2.7/24", ""])
def test_what_is_no_network_is_refused(owner, bad):
    with pytest.raises(ValidationError):
        make(owner, addresses=[bad])
    assert not ApiToken.objects.exists()


def test_it_is_rotated_with_the_same_rights_while_both_work(owner, north):
    south = DepartmentFactory(code="south")
    old, old_key = make(
        owner, scopes=["cases:read"], departments=[north, south], addresses=["127.0.0.0/8"]
    )
    new, new_key = token_rotate(token=old, user=owner, overlap=timedelta(hours=2))
    assert new_key != old_key
    assert (new.scopes, new.addresses) == (["cases:read"], ["127.0.0.0/8"])
    assert set(new.departments.all()) == {north, south}
    assert new.replaces == old
    assert client_of(old_key).get("/api/v1/cases/").status_code == 200
    assert client_of(new_key).get("/api/v1/cases/").status_code == 200
    old.refresh_from_db()
    assert old.expires_at <= timezone.now() + timedelta(hours=2)
    ApiToken.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    assert client_of(old_key).get("/api/v1/cases/").status_code == 401
    assert client_of(new_key).get("/api/v1/cases/").status_code == 200
    assert AccessEvent.objects.filter(action="create", detail__replaces=old.prefix).exists()


def test_rotation_never_lengthens_nor_wakes_a_token(owner):
    old, _key = make(owner, expires_at=timezone.now() + timedelta(minutes=5))
    token_rotate(token=old, user=owner)
    old.refresh_from_db()
    assert old.expires_at <= timezone.now() + timedelta(minutes=5)
    token_revoke(token=old, user=owner)
    with pytest.raises(Conflict):
        token_rotate(token=old, user=owner)


def test_rotation_of_one_whose_departments_are_gone_opens_nothing(owner, north):
    CaseFactory(department=north)
    old, _key = make(owner, departments=[north])
    old.departments.clear()
    _new, key = token_rotate(token=old, user=owner)
    assert client_of(key).get("/api/v1/cases/").json()["results"] == []


def test_the_command_rotates(owner):
    old, _key = make(owner)
    out = StringIO()
    call_command("rotate_token", old.prefix, "--hours", "1", stdout=out, stderr=StringIO())
    assert token_find(out.getvalue().strip()).replaces == old
    with pytest.raises(CommandError):
        call_command("rotate_token", "nothing", stderr=StringIO())


def test_only_a_hash_is_kept(owner):
    token, key = make(owner)
    kept = str(ApiToken.objects.filter(pk=token.pk).values().get())
    assert key.split("_", 2)[2] not in kept
    assert token.prefix in key


class TestEscalation:
    """A token opens the least of: its scopes, its departments, its owner's role."""

    def test_every_scope_gives_no_more_than_the_owners_role(self, north):
        technician = make_member(north, Role.TECHNICIAN)
        case = CaseFactory(department=north)
        _token, key = make(technician)
        client = client_of(key)
        assert client.get(f"/api/v1/cases/{case.pk}/").status_code == 200
        body = {"department": "north", "name": "Mine"}
        assert client.post("/api/v1/cohorts/", body, format="json").status_code == 403

    def test_running_the_site_gives_a_token_no_case(self, north):
        CaseFactory(department=north)
        user = UserFactory(is_superuser=True)
        Membership.objects.create(user=user, role=Role.SYSTEM_ADMINISTRATOR)
        _token, key = make(user)
        assert client_of(key).get("/api/v1/cases/").json()["results"] == []

    def test_a_token_opens_no_page_and_no_administration(self, north):
        _token, key = make(make_member(north, Role.DEPARTMENT_ADMINISTRATOR))
        client = client_of(key)
        for name in ("work_list", "my_account", "admin:index", "mfa_index", "confirm_identity"):
            assert client.get(reverse(name)).status_code == 302, name

    def test_it_is_not_helped_by_a_session_beside_it(self, owner, north):
        CaseFactory(department=north)
        _token, key = make(owner, scopes=["search"])
        browser = signed_in(owner)
        both = {"Authorization": f"Bearer {key}"}
        assert browser.get("/api/v1/cases/").status_code == 200
        assert browser.get("/api/v1/cases/", headers=both).status_code == 403
        wrong = {"Authorization": "Bearer ps_00000000_wrong"}
        assert browser.get("/api/v1/cases/", headers=wrong).status_code == 401

    def test_a_key_with_another_tokens_prefix_opens_neither(self, owner):
        narrow, narrow_key = make(owner, scopes=["search"])
        wide, _key = make(owner)
        forged = narrow_key.replace(narrow.prefix, wide.prefix)
        assert client_of(forged).get("/api/v1/cases/").status_code == 401

    @pytest.mark.parametrize("scope", ["*", "cases:*", "cases", "CASES:READ", "cases:read "])
    def test_an_invented_scope_is_refused(self, owner, scope):
        with pytest.raises(ValidationError):
            make(owner, scopes=[scope])

    def test_a_made_token_cannot_be_widened_in_the_administration(self, north):
        admin = make_member(north, Role.DEPARTMENT_ADMINISTRATOR)
        token, _key = make(admin, scopes=["search"], departments=[north])
        client = signed_in(admin)
        answer = client.post(
            reverse("admin:cases_apitoken_change", args=[token.pk]),
            {"scopes": list(ALL), "user": admin.pk, "name": "wider"},
        )
        assert answer.status_code == 403
        token.refresh_from_db()
        assert token.scopes == ["search"]

    def test_a_department_administrator_makes_none_beyond_the_department(self, north):
        admin = make_member(north, Role.DEPARTMENT_ADMINISTRATOR)
        stranger = make_member(DepartmentFactory(code="south"), Role.PATHOLOGIST)
        client = signed_in(admin)
        form = {
            "name": "x",
            "scopes": ["cases:read"],
            "expires_at_0": "2099-01-01",
            "expires_at_1": "00:00",
        }
        for wrong in (
            {"user": stranger.pk, "departments": [north.pk]},
            {"user": admin.pk, "departments": [stranger.memberships.get().department_id]},
            {"user": admin.pk},  # without departments it would be wide
        ):
            client.post(reverse("admin:cases_apitoken_add"), {**form, **wrong})
        assert not ApiToken.objects.exists()
        client.post(
            reverse("admin:cases_apitoken_add"),
            {**form, "user": admin.pk, "departments": [north.pk], "addresses": "10.0.0.0/8"},
        )
        assert ApiToken.objects.get().addresses == ["10.0.0.0/8"]

    def test_a_department_administrator_rotates_none_of_another(self, north):
        admin = make_member(north, Role.DEPARTMENT_ADMINISTRATOR)
        other = DepartmentFactory(code="south")
        token, _key = make(make_member(other, Role.PATHOLOGIST), departments=[other])
        signed_in(admin).post(
            reverse("admin:cases_apitoken_changelist"),
            {"action": "rotate", "_selected_action": [str(token.pk)]},
        )
        assert ApiToken.objects.count() == 1


class TestThrottles:
    @pytest.fixture(autouse=True)
    def rates(self, monkeypatch):
        cache.clear()
        rates = {"caller": "2/min", "owner": "5/min"}
        for throttle in (CallerThrottle, OwnerThrottle):
            monkeypatch.setattr(throttle, "THROTTLE_RATES", rates)
        yield
        cache.clear()

    def test_each_token_has_its_rate_and_its_owner_one_for_all(self, owner):
        clients = [client_of(make(owner)[1]) for _ in range(3)]
        statuses = [c.get("/api/v1/departments/").status_code for c in clients for _ in range(3)]
        # Two of each token; what a token asks too often counts for its owner all the same, so
        # that after five nothing of this owner goes on.
        assert statuses == [200, 200, 429, 200, 200, 429, 429, 429, 429]
        other = client_of(make(UserFactory())[1])
        assert other.get("/api/v1/departments/").status_code == 200

    def test_a_session_counts_for_the_same_owner(self, owner):
        clients = [client_of(make(owner)[1]) for _ in range(2)]
        for client in clients:
            for _ in range(2):
                assert client.get("/api/v1/departments/").status_code == 200
        browser: Client = signed_in(owner)
        assert browser.get("/api/v1/departments/").status_code == 200
        answer = browser.get("/api/v1/departments/")
        assert answer.status_code == 429
        assert int(answer["Retry-After"]) > 0
