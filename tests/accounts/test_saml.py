"""Signing on by SAML, with assertions signed here by the tools of python3-saml.

So each member of an answer can be wrong; test_saml_provider.py signs on at a real provider.
"""

import base64
import datetime
import zlib
from urllib.parse import parse_qs, urlsplit

import pytest
from defusedxml import ElementTree
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from onelogin.saml2.constants import OneLogin_Saml2_Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from cases.models import AccessEvent, Membership
from pathsearch_site.settings.sign_on import allauth_providers
from tests.accounts.certificates import make_pair
from tests.factories import DepartmentFactory

pytestmark = pytest.mark.django_db

ISSUER = "https://idp.example.org/metadata"
ACS = "http://portal.example.org/login/saml/clinic/acs/"
HERE = "http://portal.example.org/login/saml/clinic/metadata/"


KEY, CERTIFICATE = make_pair()
OTHER_KEY, OTHER_CERTIFICATE = make_pair()


@pytest.fixture
def site(settings):
    one = {
        "kind": "saml",
        "id": "clinic",
        "name": "The clinic",
        "idp": {
            "entity_id": ISSUER,
            "sso_url": "https://idp.example.org/sso",
            "x509cert": CERTIFICATE,
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
    return DepartmentFactory(code="north")


def start(client, **query) -> str:
    """Ask to sign on; return the id of the request that went to the provider."""
    answer = client.get(reverse("saml_login", args=["clinic"]), query)
    address = urlsplit(answer["Location"])
    assert address.netloc == "idp.example.org"
    told = base64.b64decode(parse_qs(address.query)["SAMLRequest"][0])
    return ElementTree.fromstring(zlib.decompress(told, -15)).attrib["ID"]


def response(to, *, groups=("path",), uid="grace", key=KEY, cert=CERTIFICATE, **more) -> str:
    """Return what the provider sends: a response with one signed assertion."""
    now = datetime.datetime.now(datetime.UTC) + more.get("age", datetime.timedelta())
    at, end = (f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in (now, now + datetime.timedelta(minutes=5)))
    values = "".join(f"<saml:AttributeValue>{group}</saml:AttributeValue>" for group in groups)
    answers = f' InResponseTo="{to}"' if to else ""
    assertion = f"""<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"
 ID="_a{uid}" Version="2.0" IssueInstant="{at}"><saml:Issuer>{ISSUER}</saml:Issuer>
<saml:Subject><saml:NameID>{uid}</saml:NameID>
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
<saml:SubjectConfirmationData NotOnOrAfter="{end}" Recipient="{ACS}"{answers}/>
</saml:SubjectConfirmation></saml:Subject>
<saml:Conditions NotBefore="{at}" NotOnOrAfter="{end}"><saml:AudienceRestriction>
<saml:Audience>{more.get("audience", HERE)}</saml:Audience></saml:AudienceRestriction>
</saml:Conditions><saml:AuthnStatement AuthnInstant="{at}"><saml:AuthnContext>
<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>
</saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>
<saml:Attribute Name="uid"><saml:AttributeValue>{uid}</saml:AttributeValue></saml:Attribute>
<saml:Attribute Name="sn"><saml:AttributeValue>Hopper</saml:AttributeValue></saml:Attribute>
<saml:Attribute Name="groups">{values}</saml:Attribute></saml:AttributeStatement>
</saml:Assertion>"""
    if key:
        assertion = OneLogin_Saml2_Utils.add_sign(
            assertion,
            key,
            cert,
            sign_algorithm=OneLogin_Saml2_Constants.RSA_SHA256,
            digest_algorithm=OneLogin_Saml2_Constants.SHA256,
        ).decode()
        assertion = assertion.split("?>", 1)[-1]
    whole = f"""<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"
 xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_r{uid}" Version="2.0"
 IssueInstant="{at}" Destination="{ACS}"{answers}><saml:Issuer>{ISSUER}</saml:Issuer>
<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>
{more.get("change", lambda text: text)(assertion)}</samlp:Response>"""
    return base64.b64encode(whole.encode()).decode()


def send(client, told):
    """Post the response as the browser does; return the site's last answer."""
    answer = client.post(reverse("saml_acs", args=["clinic"]), {"SAMLResponse": told})
    return client.get(answer["Location"])


def is_in(client) -> bool:
    return client.get(reverse("my_account")).status_code == 200


def test_it_signs_on_and_follows_the_groups(site):
    client = Client(headers={"Host": "portal.example.org"})
    answer = send(client, response(start(client, next=reverse("cohorts"))))
    assert answer["Location"] == reverse("cohorts"), answer.content
    user = get_user_model().objects.get(username="grace")
    assert user.last_name == "Hopper"
    assert [row.role for row in Membership.objects.filter(user=user)] == ["pathologist"]
    client = Client(headers={"Host": "portal.example.org"})
    send(client, response(start(client), groups=["tech", "unknown"]))
    assert [row.role for row in Membership.objects.filter(user=user)] == ["technician"]
    assert AccessEvent.objects.filter(action="login", detail__provider="clinic").count() == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"key": OTHER_KEY, "cert": OTHER_CERTIFICATE},
        {"change": lambda text: text.replace(">path<", ">tech<")},
        {"change": lambda text: text.replace(">grace<", ">root<")},
        {"audience": "https://elsewhere.example/"},
        {"age": datetime.timedelta(hours=-2)},
        {"age": datetime.timedelta(hours=2)},
    ],
    ids=["unsigned", "another key", "changed group", "changed name", "audience", "old", "early"],
)
def test_what_cannot_be_trusted_signs_nobody_on(site, wrong):
    client = Client(headers={"Host": "portal.example.org"})
    answer = send(client, response(start(client), **wrong))
    assert b"That did not work" in answer.content
    assert not is_in(client)
    assert not get_user_model().objects.exists()
    assert AccessEvent.objects.filter(action="login_failed").exists()


def test_what_nobody_asked_for_signs_nobody_on(site):
    for to in ("", "ONELOGIN_0000"):
        client = Client(headers={"Host": "portal.example.org"})
        assert send(client, response(to)).status_code in (401, 403)
        assert not is_in(client)


def test_an_answer_works_once(site):
    client = Client(headers={"Host": "portal.example.org"})
    told = response(start(client))
    send(client, told)
    assert is_in(client)
    client.post(reverse("logout"))
    send(client, told)
    assert not is_in(client)


def test_the_metadata_for_the_provider(site):
    client = Client(headers={"Host": "portal.example.org"})
    answer = client.get(reverse("saml_metadata", args=["clinic"]))
    assert answer.status_code == 200
    root = ElementTree.fromstring(answer.content)
    assert root.attrib["entityID"] == HERE
    assert ACS in answer.content.decode()
    assert 'WantAssertionsSigned="true"' in answer.content.decode()
