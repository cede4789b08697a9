"""Words that understand pathology, through the search: synonyms, denial, sections, own terms."""

import pytest
from django.db import connection
from django.urls import reverse

from cases.models import Case, Report
from cases.permissions import Role
from cases.services.reports import report_save
from retrieval.engine.words.spelling import similarity
from retrieval.models import DepartmentTerm, ReportWords
from retrieval.selectors import search_results
from retrieval.services.report_words import report_words_sweep
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.search_cast import answer
from tests.retrieval.vectors import axis, between, embed, embed_report

pytestmark = pytest.mark.django_db


def report(department, text: str = "", **fields):
    """Return a slide image whose case has this diagnosis text in its report."""
    slide_image = make_slide_image(department)
    history = fields.pop("clinical_history", "")
    Case.objects.filter(pk=slide_image.slide.case_id).update(clinical_history=history)
    slide_image.slide.case.clinical_history = history
    defaults = {"diagnosis_line": "", "diagnosis_code": "", "diagnosis_text": text}
    ReportFactory(case=slide_image.slide.case, **{**defaults, **fields})
    return slide_image


def test_abbreviations_and_synonyms_find_each_other(anna, lung):
    long = report(lung, "Infiltrating ductal carcinoma of the left breast")
    short = report(lung, "IDC, right")
    coded = report(lung, "See note", diagnosis_code="8500/3")
    report(lung, "Invasive lobular carcinoma")
    assert set(answer(anna, text="IDC")) == {long, short, coded}
    assert set(answer(anna, text="invasive ductal carcinoma")) == {long, short, coded}
    assert answer(anna, text="IDC left") == [long]
    assert answer(anna, text="8500/3") == [coded]


def test_what_a_report_denies_it_does_not_answer(anna, lung, text_model, meaning):
    """The report that denies it is nearest in meaning, and comes last."""
    meaning["carcinoma"] = axis(0)
    denies, affirms, other = (
        report(lung, "No evidence of carcinoma."),
        report(lung, "Small focus of carcinoma."),
        report(lung, "Chronic gastritis."),
    )
    for slide_image, vector in (
        (denies, axis(0)),
        (affirms, between(0, 1, 0.2)),
        (other, between(0, 1, 0.5)),
    ):
        embed_report(slide_image.slide.case.reports.get(), text_model, vector)
    assert answer(anna, text="carcinoma") == [affirms, other, denies]
    assert answer(anna, text="without carcinoma")[0] == denies
    assert affirms not in answer(anna, text="without carcinoma")
    assert set(answer(anna, text="gastritis -carcinoma")) >= {other, denies}


def test_open_questions_are_neither_affirmed_nor_denied(anna, lung):
    report(lung, "Fibrosis. Rule out lymphoma.", clinical_history="r/o lymphoma")
    assert answer(anna, text="lymphoma") == []
    assert answer(anna, text="without lymphoma") == []


def test_denied_explicitly_comes_before_not_said(anna, lung):
    silent = report(lung, "Adenocarcinoma.")
    says_no = report(lung, "Adenocarcinoma. No lymphovascular invasion.")
    report(lung, "Adenocarcinoma with lymphovascular invasion.")
    assert answer(anna, text="adenocarcinoma without LVI") == [says_no, silent]


def test_grades_and_stages_meet_in_every_spelling(anna, lung):
    poor = report(lung, "Poorly differentiated adenocarcinoma, pT2a N1 M0, stage IIB")
    report(lung, "Adenocarcinoma, grade I, pT1 pN0")
    for text in ("adenoCA G3", "adenocarcinoma grade III", "pT2 adenocarcinoma", "N1", "stage IIB"):
        assert answer(anna, text=text) == [poor], text


def test_the_diagnosis_counts_before_the_other_sections(anna, lung):
    gross = report(lung, "GROSS DESCRIPTION: thymoma, so it is labeled")
    history = report(lung, "Cyst.", clinical_history="Known thymoma")
    microscopy = report(lung, "Cyst.", microscopic_description="Like thymoma.")
    diagnosis = report(lung, "FINAL DIAGNOSIS: thymoma")
    assert answer(anna, text="thymoma") == [diagnosis, microscopy, history, gross]


def test_words_left_out_and_conditions_hold_for_tissue_too(anna, lung, image_model):
    asked, ring, plain, silent = (
        make_slide_image(lung),
        report(lung, "Signet ring cell carcinoma"),
        report(lung, "Adenocarcinoma without signet ring cells"),
        make_slide_image(lung),
    )
    for slide_image, vector in (
        (asked, axis(0)),
        (ring, between(0, 1, 0.5)),
        (plain, between(0, 1, 0.9)),
        (silent, between(0, 1, 0.8)),
    ):
        embed(slide_image, image_model, vector)
    ask = {"slide_image": asked}
    assert answer(anna, **ask) == [plain, silent, ring]
    assert answer(anna, **ask, text="like this slide, but signet ring") == [ring]
    assert answer(anna, **ask, text="like this but not signet ring") == [plain, silent]
    assert answer(anna, **ask, text='"signet ring cell carcinoma"') == [ring]
    everything = answer(anna, **ask, text="signet ring", text_weight=0.01)
    assert everything == [plain, silent, ring]


def test_a_condition_leaves_the_order_to_the_tissue(anna, lung, image_model):
    asked = make_slide_image(lung)
    near = report(lung, "See note.", gross_description="a thymoma")
    far = report(lung, "Thymoma. Thymoma. Thymoma.")
    for slide_image, share in ((asked, 1.0), (near, 0.9), (far, 0.4)):
        embed(slide_image, image_model, between(0, 1, share))
    assert answer(anna, slide_image=asked, text="like this slide, but thymoma") == [near, far]
    assert answer(anna, slide_image=asked, text="thymoma", text_weight=5) == [far, near]


def test_typed_as_it_is_nothing_is_understood(anna, lung):
    report(lung, "Infiltrating ductal carcinoma")
    denies = report(lung, "No IDC")
    assert answer(anna, text="IDC", is_literal=True) == [denies]
    query = search_run(anna, text="IDC", is_literal=True)
    assert query.is_literal
    assert query.understood == {}


def test_what_was_understood_is_shown_with_a_way_back(anna, lung, client):
    report(lung, "Infiltrating ductal carcinoma, G3, right breast")
    client.force_login(anna)
    page = client.post(reverse("search"), {"text": "IDC right G3 without necrosis"}, follow=True)
    told = page.content.decode()
    for chip in ("IDC = invasive ductal carcinoma", "right", "G3", "not: necrosis"):
        assert f">{chip}</li>" in told
    assert 'form="ask-again" name="is_literal"' in told
    assert "<mark>Infiltrating</mark> <mark>ductal</mark> <mark>carcinoma</mark>" in told
    answered = client.post(reverse("searches-list"), {"text": "IDC", "is_literal": True}).json()
    assert answered["search"]["is_literal"] is True
    assert answered["search"]["understood"] == []


def test_marks_never_let_markup_of_reports_or_words_through(anna, lung, client):
    report(lung, "<script>alert(1)</script> Infiltrating <b>ductal</b> carcinoma \ue000x\ue001")
    DepartmentTerm.objects.create(department=lung, form="XQ", meaning="<i>ductal</i> carcinoma")
    client.force_login(anna)
    for text in ("IDC <script>alert(2)</script>", "XQ", '"<b>ductal</b> carcinoma"', "<img src=x>"):
        page = client.post(reverse("search"), {"text": text}, follow=True).content.decode()
        for piece in ("<script>alert", "<b>ductal", "<i>ductal", "<img src=x>"):
            assert piece not in page, (text, piece)


# --- typing errors and own terms: nothing tells of other departments ---------------------------


def understood(user, text: str) -> list[str]:
    return [chip["text"] for chip in search_run(user, text=text).understood.get("chips", [])]


def test_typing_errors_are_read_as_the_nearest_word_of_the_dictionary(anna, lung):
    found = report(lung, "Adenocarcinoma")
    assert answer(anna, text="adenocarcinmoa") == [found]
    assert "adenocarcinmoa read as adenocarcinoma" in understood(anna, "adenocarcinmoa")


def test_a_word_that_a_report_has_is_no_error_and_hidden_reports_do_not_count(anna, lung):
    before = understood(anna, "carcnoma")
    assert before == ["carcnoma read as carcinoma"]
    liver = DepartmentFactory(code="liver")
    report(liver, "carcnoma zzhiddenword")
    assert understood(anna, "carcnoma") == before
    assert understood(anna, "zzhiddenwort") == []  # never a word of a report as suggestion
    report(lung, "carcnoma")
    assert understood(anna, "carcnoma") == []


def test_own_terms_count_at_once_and_for_their_department_alone(anna, lung):
    liver = DepartmentFactory(code="liver")
    found = report(lung, "Infiltrating ductal carcinoma")
    assert answer(anna, text="XQ7") == []
    DepartmentTerm.objects.create(department=liver, form="XQ7", meaning="invasive ductal carcinoma")
    assert answer(anna, text="XQ7") == []
    assert understood(anna, "XQ7") == []
    DepartmentTerm.objects.create(department=lung, form="XQ7", meaning="invasive ductal carcinoma")
    assert answer(anna, text="XQ7") == [found]
    assert understood(anna, "xq7") == ["xq7 = invasive ductal carcinoma"]


def test_a_department_administrator_adds_terms_in_the_administration(lung, client):
    boss = make_member(lung, Role.DEPARTMENT_ADMINISTRATOR, is_staff=True)
    liver = DepartmentFactory(code="liver")
    client.force_login(boss)
    url = reverse("admin:retrieval_departmentterm_add")
    client.post(url, {"department": liver.pk, "form": "XQ7", "meaning": "x"})
    assert not DepartmentTerm.objects.exists()
    client.post(url, {"department": lung.pk, "form": "XQ7", "meaning": "adenoma"})
    term = DepartmentTerm.objects.get()
    assert (term.department, term.created_by) == (lung, boss)
    assert understood(boss, "XQ7") == ["XQ7 = adenoma"]


def test_trigrams_are_those_of_postgres():
    with connection.cursor() as cursor:
        for pair in (("carcinoma", "carcnoma"), ("word", "words"), ("a", "b"), ("ductal", "duct")):
            cursor.execute("SELECT similarity(%s, %s)", pair)
            assert cursor.fetchone()[0] == pytest.approx(similarity(*pair), abs=1e-6), pair


# --- reading reports ---------------------------------------------------------------------------


def test_a_saved_report_is_found_at_once_and_an_old_version_no_more(lung, monkeypatch):
    boss = make_member(lung, Role.PATHOLOGIST)
    slide_image = make_slide_image(lung)
    case = slide_image.slide.case
    report_save(user=boss, case=case, status="preliminary", diagnosis_text="Thymoma")
    assert answer(boss, text="thymoma") == [slide_image]
    report_save(user=boss, case=case, status="final", diagnosis_text="Cyst")
    assert answer(boss, text="thymoma") == []
    assert answer(boss, text="cyst") == [slide_image]
    assert ReportWords.objects.count() == 1


def test_the_sweep_reads_what_is_missing_old_or_changed(anna, lung):
    images = [report(lung, f"Thymoma {number}") for number in range(5)]
    ReportWords.objects.all().delete()
    assert answer(anna, text="thymoma") == []
    assert report_words_sweep(batch=2) == 5
    assert set(answer(anna, text="thymoma")) == set(images)
    assert report_words_sweep() == 0
    ReportWords.objects.filter(report__case=images[0].slide.case).update(reading_version=0)
    assert report_words_sweep(most=None) == 1
    case = images[1].slide.case
    case.clinical_history = "Known myasthenia"
    case.save()
    assert report_words_sweep() == 1
    assert answer(anna, text="myasthenia") == [images[1]]


def test_old_versions_are_not_read(lung):
    slide_image = report(lung, "Thymoma")
    Report.objects.update(is_current=False)
    ReportWords.objects.all().delete()
    assert report_words_sweep() == 0
    assert slide_image


def test_results_keep_what_they_were_understood_as(anna, lung):
    report(lung, "Infiltrating ductal carcinoma")
    query = search_run(anna, text="IDC")
    assert query.understood["chips"] == [
        {"kind": "term", "text": "IDC = invasive ductal carcinoma"}
    ]
    (hit,) = search_results(query, anna).hits
    assert "<mark>ductal</mark>" in hit.excerpt
