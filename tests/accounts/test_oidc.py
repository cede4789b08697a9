"""Signing on at a real OpenID provider, which runs on loopback in a process of its own."""

import json
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, Membership
from cases.permissions import Role
from pathsearch_site.settings.sign_on import allauth_providers
from tests.accounts.oidc_provider import PASSWORD, SECRET
from tests.factories import DepartmentFactory, UserFactory

pytestmark = pytest.mark.django_db

CALLBACK = "http://testserver/login/oidc/hospital/back/"
GROUPS = [
    {"group": "path-north", "department": "north", "role": "pathologist"},
    {"group": "heads", "department": "north", "role": "department_administrator"},
    {"group": "path-south", "department": "south", "role": "technician"},
    {"group": "it", "role": "system_administrator"},
    {"group": "broken", "department": "nowhere", "role": "pathologist"},
    {"group": "broken", "department": "north", "role": "emperor"},
    {"group": "broken", "department": "north", "role": "system_administrator"},
    {"group": "elsewhere", "department": "north", "role": "pathologist", "provider": "other"},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    """Run the provider; return its address and the folder with its claims."""
    folder = tmp_path_factory.mktemp("provider")
    (folder / "claims.json").write_text("{}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.accounts.oidc_provider", "0", str(folder), CALLBACK],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = process.stdout.readline().strip()
        assert port, "the provider did not start"
        yield f"http://127.0.0.1:{port}", folder
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def site(provider, settings):
    """Let the site know the provider; return a function that sets what it tells of the user."""
    address, folder = provider
    one = {
        "kind": "oidc",
        "id": "hospital",
        "name": "St. Elsewhere",
        "server_url": address,
        "client_id": "pathsearch",
        "secret": SECRET,
    }

    def tell(change=None, **claims):
        (folder / "claims.json").write_text(json.dumps(claims))
        settings.SIGN_ON_PROVIDERS = [{**one, **(change or {})}]
        settings.SOCIALACCOUNT_PROVIDERS = allauth_providers([one])

    settings.SIGN_ON_GROUPS = GROUPS
    tell(groups=["path-north"])
    DepartmentFactory(code="north")
    DepartmentFactory(code="south")
    return tell


def sign_on(client, browser=None, **query):
    """Go the whole way as a browser does; return the site's last answer."""
    browser = browser or requests.Session()
    start = client.get(reverse("openid_connect_login", args=["hospital"]), query)
    assert start.status_code == 302, start.content
    answer = browser.get(start["Location"])
    if "password" in answer.text:
        answer = browser.post(
            answer.url, {"login": "ada", "password": PASSWORD}, allow_redirects=False
        )
    while answer.is_redirect and not answer.headers["Location"].startswith("http://testserver"):
        address = requests.compat.urljoin(answer.url, answer.headers["Location"])
        answer = browser.get(address, allow_redirects=False)
    assert answer.is_redirect, answer.text[:500]
    return client.get(answer.headers["Location"].removeprefix("http://testserver"))


def roles(user):
    rows = Membership.objects.filter(user=user).select_related("department")
    return {(row.department.code if row.department else "", row.role) for row in rows}


def test_the_page_offers_it(site, client):
    page = client.get(reverse("login")).content.decode()
    assert "Sign in with St. Elsewhere" in page
    assert reverse("openid_connect_login", args=["hospital"]) in page


def test_it_makes_an_account_with_the_roles_of_its_groups(site, client):
    site(groups=["path-north", "it", "unknown", "broken", "elsewhere"])
    answer = sign_on(client, next=reverse("cohorts"))
    assert answer["Location"] == reverse("cohorts")
    user = get_user_model().objects.get(username="ada")
    assert (user.first_name, user.last_name) == ("Ada", "Lovelace")
    assert not user.has_usable_password()
    assert roles(user) == {("north", "pathologist"), ("", "system_administrator")}
    assert client.get(reverse("work_list")).status_code == 200
    login = AccessEvent.objects.filter(action="login", detail__provider="hospital")
    assert login.count() == 1
    made = AccessEvent.objects.filter(action="create", object_type="membership")
    assert {event.detail["role"] for event in made} == {"pathologist", "system_administrator"}


def test_memberships_follow_the_groups_at_each_sign_on(site):
    sign_on(Client())
    user = get_user_model().objects.get(username="ada")
    north = Membership.objects.get(user=user).department
    Membership.objects.create(user=user, department=north, role=Role.AUDITOR)  # by hand
    site(groups="path-south")
    client = Client()
    sign_on(client)
    assert roles(user) == {("south", "technician"), ("north", "auditor")}
    taken = AccessEvent.objects.get(action="delete", object_type="membership")
    assert taken.detail["role"] == "pathologist"
    site()
    sign_on(Client())
    assert roles(user) == {("north", "auditor")}
    assert get_user_model().objects.filter(username__startswith="ada").count() == 1


def test_a_local_account_of_the_same_name_or_address_is_not_taken_over(site):
    local = UserFactory(username="ada", email="ada@example.org", is_superuser=True)
    site(groups=["path-north"], email="ada@example.org", email_verified=True)
    client = Client()
    sign_on(client)
    assert int(client.session["_auth_user_id"]) != local.pk
    other = get_user_model().objects.get(pk=client.session["_auth_user_id"])
    assert other.username != "ada"
    assert not other.is_superuser


def test_an_account_that_is_switched_off_stays_out(site):
    sign_on(Client())
    get_user_model().objects.filter(username="ada").update(is_active=False)
    client = Client()
    assert sign_on(client)["Location"] == reverse("account_inactive")
    assert client.get(reverse("my_account")).status_code == 302


def test_a_provider_may_be_barred_from_making_accounts(site):
    site({"creates_accounts": False}, groups=["path-north"])
    client = Client()
    assert b"No account for you yet" in sign_on(client).content
    assert not get_user_model().objects.filter(username="ada").exists()


def test_claims_are_shown_as_text(site):
    evil = "<script>alert(1)</script>\x00"
    site(groups=["path-north"], given_name=evil, family_name="x" * 500, preferred_username=evil)
    client = Client()
    sign_on(client)
    page = client.get(reverse("my_account")).content
    assert b"<script>alert" not in page
    assert b"&lt;script&gt;alert(1)" in page


def test_an_answer_for_another_browser_is_refused(site, client):
    browser = requests.Session()
    start = client.get(reverse("openid_connect_login", args=["hospital"]))
    page = browser.get(start["Location"])
    answer = browser.post(page.url, {"login": "ada", "password": PASSWORD}, allow_redirects=False)
    while not answer.headers["Location"].startswith("http://testserver"):
        address = requests.compat.urljoin(answer.url, answer.headers["Location"])
        answer = browser.get(address, allow_redirects=False)
    stolen = Client()
    there = stolen.get(answer.headers["Location"].removeprefix("http://testserver"))
    assert b"That did not work" in there.content
    assert stolen.get(reverse("my_account")).status_code == 302
    assert AccessEvent.objects.filter(action="login_failed").exists()


def test_it_asks_with_a_proof_key_and_never_leads_elsewhere(site, client):
    start = client.get(
        reverse("openid_connect_login", args=["hospital"]), {"next": "https://elsewhere.example/"}
    )
    asked = parse_qs(urlsplit(start["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert sign_on(Client(), next="https://elsewhere.example/")["Location"] == "/"


def test_an_old_sign_on_at_the_provider_is_no_fresh_proof(site, client):
    site(groups=[], auth_time=int(time.time()) - 7200)
    sign_on(client)
    assert time.time() - client.session["authenticated_at"] >= 7200
    page = client.get(reverse("confirm_identity")).content.decode()
    assert "Sign in again at St. Elsewhere" in page
    assert "prompt%3Dlogin%26max_age%3D0" in page


@pytest.mark.parametrize("trusted", [True, False])
def test_the_providers_second_factor_counts_where_it_is_said_to(site, client, settings, trusted):
    settings.MFA_ROLES = ["pathologist"]
    site({"second_factor": trusted}, groups=["path-north"])
    sign_on(client)
    expected = 200 if trusted else 302
    assert client.get(reverse("work_list")).status_code == expected
