"""Signing on by SAML at a provider that others wrote: SimpleSAMLphp on loopback."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from cases.models import Membership
from pathsearch_site.settings.sign_on import allauth_providers
from tests.accounts import saml_provider
from tests.accounts.certificates import make_pair
from tests.factories import DepartmentFactory
from tests.live_site import free_port

if not saml_provider.is_installed():
    pytest.skip("SimpleSAMLphp is not installed: make providers", allow_module_level=True)
pytestmark = pytest.mark.django_db

SITE = "http://portal.example.org/login/saml/clinic"


@pytest.fixture
def provider(tmp_path, settings):
    key, certificate = make_pair()
    folder = tmp_path / "idp"
    folder.mkdir()
    with saml_provider.running(
        folder,
        free_port(),
        certificate=certificate,
        key=key,
        entity=f"{SITE}/metadata/",
        acs=f"{SITE}/acs/",
    ) as origin:
        one = {
            "kind": "saml",
            "id": "clinic",
            "name": "The clinic",
            "idp": {
                "entity_id": f"{origin}/metadata",
                "metadata_url": f"{origin}/saml2/idp/metadata.php",
            },
            "attribute_mapping": {"uid": "uid", "username": "uid", "last_name": "sn"},
        }
        settings.ALLOWED_HOSTS = ["portal.example.org"]
        settings.SIGN_ON_PROVIDERS = [one]
        settings.SOCIALACCOUNT_PROVIDERS = allauth_providers([one])
        settings.SIGN_ON_GROUPS = [
            {"group": "path", "department": "north", "role": "pathologist"},
            {"group": "tech", "department": "north", "role": "technician"},
        ]
        DepartmentFactory(code="north")
        yield origin


def test_it_signs_on_at_a_real_provider(provider):
    client = Client(headers={"Host": "portal.example.org"})
    start = client.get(reverse("saml_login", args=["clinic"]), {"next": reverse("cohorts")})
    assert start["Location"].startswith(f"{provider}/saml2/idp/SSOService.php")
    page, told = saml_provider.Browser().sign_on(start["Location"])
    assert f'action="{SITE}/acs/"' in page
    acs = client.post(reverse("saml_acs", args=["clinic"]), told)
    end = client.get(acs["Location"])
    assert end["Location"] == reverse("cohorts"), end.content
    user = get_user_model().objects.get(username="grace")
    assert user.last_name == "Hopper"
    assert [row.role for row in Membership.objects.filter(user=user)] == ["pathologist"]
    # What was sent once opens nothing a second time, for whoever kept it.
    thief = Client(headers={"Host": "portal.example.org"})
    again = thief.post(reverse("saml_acs", args=["clinic"]), told)
    if again.status_code == 302:
        thief.get(again["Location"])
    assert thief.get(reverse("my_account")).status_code == 302


def test_a_wrong_password_at_the_provider_brings_nothing_back(provider):
    client = Client(headers={"Host": "portal.example.org"})
    start = client.get(reverse("saml_login", args=["clinic"]))
    page, told = saml_provider.Browser().sign_on(start["Location"], password="wrong")
    assert "SAMLResponse" not in told
    assert "Incorrect username or password" in page
