"""An emergency that is opened by keys and reviewed, and a consult that is answered."""

import pytest

from tests.browser.conftest import AXE, Visitor

FOREIGN = (
    "list(Case.objects.filter(department__code='{code}').order_by('accession_number')"
    ".values_list('accession_number', 'patient__family_name')[:1])"
)


def other_case(visitor: Visitor) -> tuple[str, str, str]:
    """Return department, accession number and family name of a case that Northside cannot see."""
    codes = visitor.site.ask("list(Department.objects.values_list('code', 'name'))")
    code, name = next(pair for pair in codes if pair[0] != "northside")
    number, family = visitor.site.ask(FOREIGN.format(code=code))[0]
    return name, number, family


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_an_emergency_by_keys_and_its_bar(visitor: Visitor, theme: str):
    page = visitor.page
    department, number, family = other_case(visitor)
    visitor.login("northside-pathologist")
    visitor.goto("/emergency/")
    page.select_option("#id_department", label=department)
    page.focus("#id_number")
    page.keyboard.type(number)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("The surgeon waits for the frozen section.")
    visitor.look(f"emergency-{theme}")
    found = visitor.axe() if AXE.exists() else []
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/cases/" in url)
    assert family in page.content()
    page.wait_for_selector(".emergency-bar")
    visitor.look(f"emergency-case-{theme}")
    bar = page.locator(".emergency-bar")
    # The page that stays open counts down, and says when it is over.
    page.evaluate("document.querySelector('[data-minutes]').textContent = '99'")
    page.wait_for_selector("[data-minutes]:not(:has-text('99'))")
    assert "Minutes left:" in bar.inner_text()
    found += visitor.axe() if AXE.exists() else []
    case = page.url
    page.click(".slide-card a.button:has-text('View')")
    page.wait_for_selector("#power-now:not(:empty)")
    page.wait_for_selector(".emergency-bar")
    visitor.look(f"emergency-slide-{theme}")
    page.click(".emergency-bar button")
    page.wait_for_selector("text=The emergency access is ended")
    assert page.request.get(case).status == 404
    assert found == []


def test_the_department_reviews_it(visitor: Visitor):
    page = visitor.page
    department, _number, _family = other_case(visitor)
    code = visitor.site.ask(f"Department.objects.get(name={department!r}).code")
    visitor.login(f"{code}-admin")
    page.click("a[aria-label^='Emergency accesses']")
    page.select_option("#id_show", "open")
    page.wait_for_selector("text=None of these")
    page.select_option("#id_show", "waiting")
    page.wait_for_selector("tr[data-row]")
    visitor.look("emergency-reviews")
    found = visitor.axe() if AXE.exists() else []
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The surgeon waits")
    assert page.locator("#seen-title + .table-wrap tbody tr").count() >= 3
    visitor.look("emergency-review")
    found += visitor.axe() if AXE.exists() else []
    page.select_option("#id_outcome", "justified")
    page.click("button:has-text('Keep the review')")
    page.wait_for_selector("text=The review is kept")
    assert found == []


def test_a_page_that_stays_open_says_when_it_is_over(visitor: Visitor):
    page = visitor.page
    department, number, _family = other_case(visitor)
    visitor.login("northside-pathologist")
    visitor.goto("/emergency/")
    page.select_option("#id_department", label=department)
    page.fill("#id_number", number)
    page.fill("#id_reason", "A page that stays open.")
    page.click("button:has-text('Open it')")
    page.wait_for_url(lambda url: "/cases/" in url)
    page.clock.install()
    page.reload()
    page.wait_for_selector("[data-minutes]")
    page.clock.fast_forward("01:00:01")
    page.wait_for_selector(".emergency-bar [role=alert]:has-text('is over')")
    visitor.look("emergency-over")
    assert (visitor.axe() if AXE.exists() else []) == []


def test_a_consult_is_asked_and_answered(visitor: Visitor):
    page = visitor.page
    code = visitor.site.ask("Department.objects.exclude(code='northside').first().code")
    visitor.login("northside-pathologist")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/cases/" in url)
    case = page.url
    page.click("summary:has-text('Ask for a consult')")
    page.fill("#id_username", f"{code}-pathologist")
    page.fill("#id_question", "Would you call this carcinoma?")
    visitor.look("consult-ask")
    found = visitor.axe() if AXE.exists() else []
    page.click("button:text-is('Ask'):not(.button-ask):visible >> nth=-1")
    page.wait_for_selector("text=can open the case now")
    page.click("button:has-text('Sign out')")
    visitor.login(f"{code}-pathologist")
    page.click("nav a:has-text('Consults')")
    visitor.look("consults")
    found += visitor.axe() if AXE.exists() else []
    page.click("summary:has-text('More')")
    visitor.look("menu")
    found += visitor.axe() if AXE.exists() else []
    page.keyboard.press("Escape")
    assert page.locator("[data-menu][open]").count() == 0
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(case)
    assert "Not indexed" not in page.content()
    page.fill("textarea[name=opinion]", "Yes: desmoplastic stroma, single cells.")
    page.click("button:has-text('Give the opinion')")
    page.wait_for_selector("blockquote:has-text('desmoplastic')")
    visitor.look("consult-answered")
    found += visitor.axe() if AXE.exists() else []
    # The department that asked closes the case again, to the tests after this one too.
    page.click("button:has-text('Sign out')")
    visitor.login("northside-pathologist")
    page.goto(case)
    page.click("button:has-text('End this consult')")
    page.wait_for_selector("text=The consult is ended")
    assert found == []
