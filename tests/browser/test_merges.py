"""Two numbers of one patient: looked for, merged and separated in the browser."""

import pytest

from tests.browser.conftest import AXE, Visitor


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_two_numbers_are_merged_and_separated(visitor: Visitor, theme: str):
    page = visitor.page
    department = "Department.objects.get(code='northside')"
    people = f"Patient.objects.filter(department={department}).order_by('mrn')"
    first, second = visitor.site.ask(f"[str({people}[0].pk), {people}[1].mrn]")
    visitor.login("northside-admin")
    visitor.goto(f"/patients/{first}/numbers/")
    page.fill("#find-mrn", second)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Merge the two")
    visitor.look(f"merge-{theme}")
    found = visitor.axe() if AXE.exists() else []
    page.fill("input[name=reason]", "Same passport")
    page.click("button:has-text('Merge the two')")
    page.wait_for_selector("text=one patient now")
    page.click("summary:has-text('Undo this merge')")
    visitor.look(f"merged-{theme}")
    found += visitor.axe() if AXE.exists() else []
    page.fill("details input[name=reason]", "Twins")
    page.click("button:has-text('Make them two again')")
    page.wait_for_selector("text=two patients again")
    assert found == []
