"""The history of a case, field by field."""

import pytest

from tests.browser.conftest import AXE, Visitor


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_the_history_of_a_case(visitor: Visitor, theme: str):
    page = visitor.page
    visitor.login("northside-pathologist")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/cases/" in url)
    pk = page.url.rstrip("/").split("/")[-1]
    visitor.site.ask(
        f"Case.objects.filter(pk='{pk}').update(clinical_history='Put right, {theme}')"
    )
    page.click("a:has-text('History of changes')")
    page.wait_for_selector(f"ins:has-text('Put right, {theme}')")
    visitor.look(f"history-{theme}")
    found = visitor.axe() if AXE.exists() else []
    page.click("nav a:has-text('Scan')")
    page.wait_for_selector("text=Nothing was changed")
    assert found == []
