"""Signing on by an LDAP directory: a real one (slapd) on loopback."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, DirectoryAccount, Membership
from pathsearch_site.settings import accounts
from pathsearch_site.settings.env import SettingError
from pathsearch_site.settings.sign_on import read_sign_on
from tests.accounts import directory_server
from tests.accounts.certificates import make_pair
from tests.accounts.directory_server import BASE, PASSWORD, READER, READER_PASSWORD
from tests.factories import DepartmentFactory, UserFactory

pytest.importorskip("django_auth_ldap", reason="the extra is not installed: make ldap")
if not directory_server.is_installed():
    pytest.skip("slapd is not installed: make providers", allow_module_level=True)
pytestmark = pytest.mark.django_db

GRACE = f"uid=grace,ou=people,{BASE}"
PATH_GROUP = f"cn=path,ou=groups,{BASE}"
NOBODY = f"cn=nobody,{BASE}"


@pytest.fixture
def directory(tmp_path):
    key, certificate = make_pair("127.0.0.1")
    folder = tmp_path / "slapd"
    folder.mkdir()
    with directory_server.running(folder, certificate, key) as found:
        yield found


@pytest.fixture
def configure(settings, tmp_path):
    """Return the function that configures the site as its file would."""

    def _configure(url: str, **more) -> None:
        (tmp_path / "password").write_text(f"{READER_PASSWORD}\n")
        told = {
            "directory": {
                "id": "hospital",
                "server_url": url,
                "bind_dn": READER,
                "bind_password_file": str(tmp_path / "password"),
                "people": f"ou=people,{BASE}",
                "groups": f"ou=groups,{BASE}",
                **more,
            },
            "groups": [
                {"group": "path", "department": "north", "role": "pathologist"},
                {"group": "tech", "department": "north", "role": "technician"},
            ],
        }
        file = tmp_path / "sign-on.json"
        file.write_text(json.dumps(told))
        _providers, settings.SIGN_ON_GROUPS, settings.SIGN_ON_DIRECTORY = read_sign_on(str(file))
        settings.AUTHENTICATION_BACKENDS = [
            *accounts.AUTHENTICATION_BACKENDS,
            "cases.sign_on.directory.DirectoryBackend",
        ]

    return _configure


@pytest.fixture
def site(directory, configure):
    configure(directory.url)
    return DepartmentFactory(code="north")


def sign_on(name: str, password: str = PASSWORD) -> Client:
    client = Client()
    client.post(reverse("login"), {"username": name, "password": password})
    return client


def is_in(client: Client) -> bool:
    return client.get(reverse("my_account")).status_code == 200


def roles(name: str) -> list[str]:
    return list(Membership.objects.filter(user__username=name).values_list("role", flat=True))


def test_it_signs_on_and_follows_the_groups(site, directory):
    assert is_in(sign_on("grace"))
    user = get_user_model().objects.get(username="grace")
    assert (user.first_name, user.last_name) == ("Grace", "Hopper")
    assert not user.has_usable_password()
    assert roles("grace") == ["pathologist"]
    directory.change(PATH_GROUP, member=[NOBODY])
    assert is_in(sign_on("grace"))
    assert roles("grace") == []
    given = AccessEvent.objects.filter(reason="groups of the sign-on")
    assert sorted(event.action for event in given) == ["create", "delete"]


@pytest.mark.parametrize("password", ["wrong", "", " "])
def test_a_wrong_or_empty_password_lets_nobody_in(site, password):
    assert not is_in(sign_on("grace", password))
    assert not get_user_model().objects.filter(username="grace").exists()


@pytest.mark.parametrize(
    "name", ["*", "gra*", "grace)(uid=*", "grace))(|(uid=*", "\\67race", "nobody"]
)
def test_a_name_is_no_filter(site, name):
    assert not is_in(sign_on(name))
    assert not get_user_model().objects.exists()


def test_a_local_account_of_the_same_name_is_not_taken_over(site):
    local = UserFactory(username="Grace")
    assert not is_in(sign_on("grace"))
    assert not DirectoryAccount.objects.exists()
    local.refresh_from_db()
    assert local.last_name != "Hopper"


def test_a_renamed_entry_keeps_its_account_and_a_new_one_does_not_inherit_it(site, directory):
    assert is_in(sign_on("grace"))
    user = get_user_model().objects.get()
    directory.rename(GRACE, "uid=murray")
    directory.rename(f"uid=alan,ou=people,{BASE}", "uid=grace")
    assert is_in(sign_on("murray"))
    assert get_user_model().objects.get() == user
    assert not is_in(sign_on("grace")), "another person with the old name"


def test_a_name_in_capitals_is_the_same_account_and_the_same_count(site, settings):
    settings.AXES_ENABLED = True
    assert is_in(sign_on("GRACE"))
    assert is_in(sign_on(" grace"))
    assert get_user_model().objects.count() == 1
    for name in ["Grace", "gRace", "grAce", "graCe", "gracE", "GRace", "grACe", "graCE"]:
        sign_on(name, "wrong")
    assert not is_in(sign_on("grace")), "locked, however the name is written"


def test_a_deactivated_account_stays_out_and_its_session_ends(site):
    client = sign_on("grace")
    assert is_in(client)
    get_user_model().objects.update(is_active=False)
    assert not is_in(client)
    assert not is_in(sign_on("grace"))


def test_it_asks_again_by_the_directory_s_password(site):
    client = sign_on("grace")
    page = reverse("confirm_identity")
    assert 'name="password"' in client.get(page).content.decode()
    refused = client.post(page, {"password": "wrong", "next": reverse("my_account")})
    assert refused.status_code == 200
    allowed = client.post(page, {"password": PASSWORD, "next": reverse("my_account")})
    assert allowed["Location"] == reverse("my_account")


def test_no_account_is_made_where_an_administrator_has_to(site, directory, configure):
    configure(directory.url, creates_accounts=False)
    assert not is_in(sign_on("grace"))
    assert not get_user_model().objects.exists()


def test_a_silent_directory_is_told_and_local_accounts_go_on(configure):
    configure("ldap://127.0.0.1:9")
    local = UserFactory(username="local")
    local.set_password("a local horse battery")
    local.save()
    said = Client().post(reverse("login"), {"username": "grace", "password": PASSWORD})
    assert "directory of accounts does not answer" in said.content.decode()
    assert AccessEvent.objects.filter(detail__error="SERVER_DOWN").exists()
    assert is_in(sign_on("local", "a local horse battery"))


def test_over_tls_the_certificate_must_be_known(site, directory, configure):
    configure(directory.secret_url, ca_file=str(directory.certificate))
    assert is_in(sign_on("grace"))
    configure(directory.secret_url)
    assert not is_in(sign_on("alan"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ldap://ldap.example.org"}, "ldaps:// or start_tls"),
        ({"group_kind": "circle"}, "group_kind is one of"),
        ({"peple": "ou=people"}, "peple"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(configure, change, said):
    with pytest.raises(SettingError, match=said):
        configure(**{"url": "ldaps://ldap.example.org", **change})
