"""Second factors: setting up, signing in with them, and roles that must have one."""

import re

import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, Membership
from cases.permissions import Role
from tests.accounts.conftest import PASSWORD, SECRET, age, code_now, give_app, signed_in
from tests.factories import DepartmentFactory, UserFactory, make_member

pytestmark = pytest.mark.django_db


def give_password(user) -> Client:
    client = Client()
    client.post(reverse("login"), {"username": user.username, "password": PASSWORD})
    return client


def is_in(client) -> bool:
    return client.get(reverse("my_account")).status_code == 200


def test_the_password_alone_does_not_sign_in(user):
    give_app(user)
    client = give_password(user)
    assert not is_in(client)
    assert not AccessEvent.objects.filter(action="login").exists()
    assert b"One more step" in client.get(reverse("mfa_authenticate")).content
    client.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert not is_in(client)
    failure = AccessEvent.objects.get(action="login_failed")
    assert (failure.object_id, failure.detail["factor"]) == (str(user.pk), "totp")
    answer = client.post(reverse("mfa_authenticate"), {"code": code_now()})
    assert answer["Location"] == reverse("work_list")
    assert is_in(client)
    assert AccessEvent.objects.filter(action="login", detail__factor="totp").exists()


def test_a_code_works_once(user):
    give_app(user)
    code = code_now()
    first = give_password(user)
    first.post(reverse("mfa_authenticate"), {"code": code})
    assert is_in(first)
    second = give_password(user)
    second.post(reverse("mfa_authenticate"), {"code": code})
    assert not is_in(second)


def test_a_recovery_code_works_once(user):
    code = give_app(user)[0]
    for expected in (True, False):
        client = give_password(user)
        client.post(reverse("mfa_authenticate"), {"code": code})
        assert is_in(client) == expected


def test_guessing_codes_is_stopped(user):
    give_app(user)
    client = give_password(user)
    for _ in range(6):
        answer = client.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert "Too many" in answer.content.decode()
    client.post(reverse("mfa_authenticate"), {"code": code_now()})
    assert not is_in(client)


def test_setting_up_an_app_shows_a_secret_kept_encrypted_and_codes_once(
    user, django_capture_on_commit_callbacks
):
    client = signed_in(user)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    secret = re.search(r'value="([A-Z2-7]{16,})"', page).group(1)
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(reverse("mfa_activate_totp"), {"code": code_now(secret)})
    assert answer["Location"] == reverse("mfa_view_recovery_codes")
    kept = Authenticator.objects.get(user=user, type="totp").data
    assert secret not in str(kept)
    first = client.get(answer["Location"]).content.decode()
    codes = re.findall(r"\b\d{8}\b", first)
    assert len(codes) == 10
    assert codes[0] not in client.get(answer["Location"]).content.decode()
    actions = AccessEvent.objects.filter(action="create", object_type="user")
    assert {event.detail["factor"] for event in actions} == {"totp", "recovery_codes"}


def test_changing_factors_asks_again_who_sits_there(user):
    client = signed_in(user)
    age(client, 86400)
    for name in ("mfa_activate_totp", "mfa_add_webauthn"):
        answer = client.get(reverse(name))
        assert answer["Location"].startswith(reverse("confirm_identity"))
    give_app(user)
    for name in ("mfa_deactivate_totp", "mfa_view_recovery_codes", "mfa_download_recovery_codes"):
        answer = client.get(reverse(name))
        assert answer["Location"].startswith(reverse("confirm_identity")), name


def test_a_code_confirms_who_sits_there(user):
    codes = give_app(user)
    client = give_password(user)
    client.post(reverse("mfa_authenticate"), {"code": codes[0]})
    age(client, 86400)
    assert client.get(reverse("mfa_deactivate_totp")).status_code == 302
    wrong = client.post(reverse("confirm_identity"), {"code": "000000"})
    assert wrong.status_code == 200
    client.post(reverse("confirm_identity"), {"code": code_now()})
    assert client.get(reverse("mfa_deactivate_totp")).status_code == 200


def test_another_ones_passkey_is_not_there(user):
    other = UserFactory()
    key = Authenticator.objects.create(user=other, type="webauthn", data={"name": "theirs"})
    client = signed_in(user)
    for name in ("mfa_remove_webauthn", "mfa_edit_webauthn"):
        assert client.post(reverse(name, args=[key.pk])).status_code == 404
    assert Authenticator.objects.filter(pk=key.pk).exists()


class TestRequiredByRole:
    @pytest.fixture(autouse=True)
    def roles(self, settings):
        settings.MFA_ROLES = ["system_administrator", "auditor"]

    # The session is written after the factor is committed, as in a real request.
    @pytest.mark.django_db(transaction=True)
    def test_it_opens_nothing_but_the_way_to_one(self):
        auditor = make_member(DepartmentFactory(), Role.AUDITOR)
        client = signed_in(auditor)
        for name in ("work_list", "audit", "admin:index"):
            answer = client.get(reverse(name))
            assert answer["Location"] == reverse("mfa_index"), name
        api = client.get("/api/v1/cases/")
        assert (api.status_code, api.json()["code"]) == (403, "second_factor_required")
        for name in ("mfa_index", "my_account", "password", "mfa_activate_totp"):
            assert client.get(reverse(name)).status_code == 200, name
        page = client.get(reverse("mfa_activate_totp")).content.decode()
        secret = re.search(r'value="([A-Z2-7]{16,})"', page).group(1)
        client.post(reverse("mfa_activate_totp"), {"code": code_now(secret)})
        assert client.get(reverse("audit")).status_code == 200
        # Whoever takes the factor away again stands outside again.
        client.post(reverse("mfa_deactivate_totp"))
        assert client.get(reverse("audit"))["Location"] == reverse("mfa_index")

    def test_who_has_one_goes_straight_in(self):
        auditor = make_member(DepartmentFactory(), Role.AUDITOR)
        give_app(auditor)
        client = give_password(auditor)
        client.post(reverse("mfa_authenticate"), {"code": code_now()})
        assert client.get(reverse("audit")).status_code == 200

    def test_other_roles_are_not_asked(self):
        client = signed_in(make_member(DepartmentFactory(), Role.PATHOLOGIST))
        assert client.get(reverse("work_list")).status_code == 200

    def test_a_role_given_later_is_asked_from_then_on(self):
        member = make_member(DepartmentFactory(), Role.PATHOLOGIST)
        client = signed_in(member)
        assert client.get(reverse("work_list")).status_code == 200
        Membership.objects.create(user=member, role=Role.SYSTEM_ADMINISTRATOR)
        assert client.get(reverse("work_list"))["Location"] == reverse("mfa_index")

    def test_a_superuser_is_a_system_administrator(self):
        client = signed_in(UserFactory(is_superuser=True))
        assert client.get(reverse("admin:index"))["Location"] == reverse("mfa_index")


def test_a_site_administrator_resets_a_lost_factor_and_ends_a_session(user):
    give_app(user)
    lost = Authenticator.objects.get(user=user, type="totp")
    admin = UserFactory()
    Membership.objects.create(user=admin, role=Role.SYSTEM_ADMINISTRATOR)
    client = signed_in(admin)
    page = client.get(reverse("admin:mfa_authenticator_change", args=[lost.pk]))
    assert SECRET not in page.content.decode()
    assert "gAAAA" not in page.content.decode()
    client.post(reverse("admin:mfa_authenticator_delete", args=[lost.pk]), {"post": "yes"})
    assert not Authenticator.objects.filter(pk=lost.pk).exists()
    cache.clear()
    theirs = signed_in(user)
    assert is_in(theirs)
    session = user.usersession_set.get()
    assert (
        theirs.session.session_key
        not in client.get(
            reverse("admin:usersessions_usersession_change", args=[session.pk])
        ).content.decode()
    )
    client.post(
        reverse("admin:usersessions_usersession_delete", args=[session.pk]), {"post": "yes"}
    )
    assert not is_in(theirs)
    assert AccessEvent.objects.filter(action="delete", object_type="usersession").exists()
