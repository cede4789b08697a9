"""English and German: both whole, switched by hand or by the browser, machines left in English."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from cases.permissions import Role
from tests import catalogue
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image

pytestmark = pytest.mark.django_db

GERMAN = catalogue.LOCALE / "de" / "LC_MESSAGES" / "django.po"
_PLACES = re.compile(r"%\(\w+\)[sd]|\{\w+\}|<[^>]+>|%%")
# English words that no German sentence has.
_ENGLISH = re.compile(r"\b(the|and|with|your|this|what|which|are|from|search|slides?|cases?)\b")


def test_nothing_is_missing():
    assert catalogue.missing(GERMAN) == [], "python -m tests.catalogue, then translate"


def test_what_is_compiled_is_what_is_written():
    from babel.messages.mofile import read_mo

    def texts(found):
        # Plurals come as lists from one reader and as tuples from the other.
        plain = (
            tuple(each if isinstance(each, str) else tuple(each) for each in (m.id, m.string))
            for m in found
            if m.id
        )
        return dict(plain)

    with GERMAN.with_suffix(".mo").open("rb") as file:
        assert texts(read_mo(file)) == texts(catalogue.read(GERMAN))


def test_placeholders_and_markup_are_the_same_in_both():
    for message in catalogue.read(GERMAN):
        if not message.id:
            continue
        plural = isinstance(message.id, tuple)
        pairs = (
            zip(message.id, message.string, strict=True)
            if plural
            else [(message.id, message.string)]
        )
        for english, german in pairs:
            assert sorted(_PLACES.findall(english)) == sorted(_PLACES.findall(german)), english


def test_no_translation_was_forgotten_in_english():
    left = {
        message.id
        for message in catalogue.read(GERMAN)
        if isinstance(message.string, str)
        and message.id
        and _ENGLISH.search(_PLACES.sub("", message.string))
    }
    assert left == set()


@pytest.fixture
def case():
    found = make_slide_image(DepartmentFactory()).slide.case
    ReportFactory(case=found, diagnosis_line="Adenokarzinom", diagnosis_text="Adenokarzinom")
    return found


def signed_in(case, role=Role.PATHOLOGIST, **headers) -> Client:
    client = Client(headers=headers)
    client.force_login(make_member(case.department, role))
    return client


def test_the_choice_is_kept_and_goes_back_to_the_page(case):
    client = signed_in(case)
    told = {"language": "de", "next": reverse("cohorts")}
    assert client.post(reverse("set_language"), told)["Location"] == reverse("cohorts")
    by_button = client.post(
        reverse("set_language"),
        {"language": "de"},
        headers={"Referer": "http://testserver" + reverse("boards")},
    )
    assert by_button["Location"].endswith(reverse("boards"))
    page = client.get(reverse("work_list")).content.decode()
    assert '<html lang="de">' in page
    assert "Fallliste" in page and "Work list" not in page
    client.post(reverse("set_language"), {**told, "language": "en"})
    assert "Work list" in client.get(reverse("work_list")).content.decode()


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_the_way_back_stays_on_the_site(case, to):
    answer = signed_in(case).post(reverse("set_language"), {"language": "de", "next": to})
    assert "evil" not in answer["Location"] and "javascript" not in answer["Location"]


def test_a_browser_that_asks_for_german_gets_it(case):
    client = signed_in(case, **{"Accept-Language": "de-DE,de;q=0.9,en;q=0.5"})
    assert "Fallliste" in client.get(reverse("work_list")).content.decode()
    assert (
        "Bei PathSearch anmelden"
        in Client(headers={"Accept-Language": "de"}).get(reverse("login")).content.decode()
    )


def test_machines_get_english_whatever_they_accept(case):
    client = signed_in(case, **{"Accept-Language": "de"})
    missing = client.get("/api/v1/cases/00000000-0000-4000-8000-000000000000/")
    assert not re.search(r"[äöüß]|nicht", missing.content.decode())
    refused = client.post(
        f"/api/v1/slide-images/{case.slides.get().images.get().pk}/regions/",
        {"kind": "line", "points": [[0, 0], [0, 0]]},
        content_type="application/json",
    )
    assert "two different points" in refused.content.decode()


# What may be asked is understood in English; the examples are.
EXAMPLE = "like this slide, but signet ring"
_PAGES = [
    ("work_list", "Fallliste"),
    ("cohorts", "Kohorten"),
    ("boards", "Tumorboards"),
    ("consults", "Konsile"),
    ("uploads", "Uploads"),
    ("unmatched", "Nicht zugeordnete Schnitte"),
    ("search", "Das Archiv durchsuchen"),
    ("saved_searches", "Gespeicherte Suchen"),
    ("map", "Karte des Archivs"),
    ("indexing", "Indexierung"),
    ("my_account", "Mein Konto"),
    ("emergency", "Notfallzugriff"),
    ("upload_new", "Schnitte hochladen"),
]


def visible_text(page: str) -> str:
    """Return what a reader sees: no markup, no scripts, no names of buttons for machines."""
    body = page[page.index("<main") :]
    body = re.sub(r"<(script|style|svg|code|kbd)[^>]*>.*?</\1>", " ", body, flags=re.S)
    return re.sub(r"<[^>]+>", " ", body)


@pytest.mark.parametrize(("name", "title"), _PAGES)
def test_pages_are_german(case, name, title):
    page = signed_in(case, **{"Accept-Language": "de"}).get(reverse(name)).content.decode()
    assert title in page
    page = page.replace(EXAMPLE, "")
    found = _ENGLISH.findall(visible_text(page).lower())
    lines = [line.strip() for line in visible_text(page).split("\n")]
    assert found == [], [line for line in lines if _ENGLISH.search(line.lower())]


@pytest.mark.parametrize("name", ["case", "slide", "case_history"])
def test_pages_of_a_case_are_german(case, name):
    pk = case.slides.get().images.get().pk if name == "slide" else case.pk
    page = signed_in(case, **{"Accept-Language": "de"}).get(reverse(name, args=[pk]))
    text = visible_text(page.content.decode())
    for value in ("Signed", case.clinical_history):
        text = text.replace(value, "")
    assert "Regionen" in text or "Verlauf" in text
    # Numbers in attributes are for programs: no decimal comma.
    for attribute in re.findall(r'data-(?:mpp|width|height)="([^"]*)"', page.content.decode()):
        assert "," not in attribute
