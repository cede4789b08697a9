"""A case whose time of keeping is over: proposed by one person, approved by another, gone."""

import pytest

from tests.browser.conftest import AXE, Visitor
from tests.live_site import wait_until

_DEPARTMENT = "Department.objects.get(code='northside')"
_SECOND = (
    "str(Membership.objects.get_or_create(department={department}, role='department_administrator',"
    " user=__import__('django.contrib.auth').contrib.auth.get_user_model().objects.get("
    "username='northside-pathologist'))[0].pk)"
)


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_two_people_delete_a_case(visitor: Visitor, theme: str):
    page, ask = visitor.page, visitor.site.ask
    number = f"S99-{theme}"
    ask("Department.objects.filter(code='northside').update(retention_years=20)")
    ask(_SECOND.format(department=_DEPARTMENT))
    pk = ask(
        f"str(Case.objects.create(department={_DEPARTMENT}, accession_number='{number}',"
        f" accession_issuer='lis', received_on='1999-03-04', patient=Patient.objects.create("
        f"department={_DEPARTMENT}, mrn='OLD-{theme}', mrn_issuer='m')).pk)"
    )
    found: list[str] = []

    def look(name: str) -> None:
        visitor.look(f"retention-{name}-{theme}")
        found.extend(visitor.axe() if AXE.exists() else [])

    visitor.login("northside-admin")
    visitor.goto("/retention/")
    page.check(f"input[aria-label='Tick case {number}']")
    page.fill("input[name=why]", "Twenty years are over")
    look("due")
    page.click("button:has-text('Propose the ticked cases')")
    page.wait_for_selector("text=1 case is proposed")
    visitor.goto(f"/cases/{pk}/")
    page.wait_for_selector("text=Place a legal hold")
    page.wait_for_selector("text=None yet")  # what is similar is asked for after the page
    look("case")
    page.click("header button:has-text('Sign out')")
    visitor.login("northside-pathologist")
    visitor.goto("/retention/?show=waiting")
    look("waiting")
    page.click(f"a:has-text('{number}')")
    page.wait_for_selector("button:has-text('Approve the deletion')")
    look("proposal")
    page.click("button:has-text('Approve the deletion')")
    page.wait_for_selector("text=A worker deletes it now")
    wait_until(
        lambda: ask(f"not Case.objects.filter(pk='{pk}').exists()"),
        seconds=120,
        what="the worker to delete the case",
        every=3,
    )
    page.reload()
    page.wait_for_selector("text=This page is what stays of the case")
    look("tombstone")
    visitor.goto("/retention/?show=done")
    look("done")
    page.wait_for_selector(f"a:has-text('{number}')")
    ask(
        "Membership.objects.filter(role='department_administrator',"
        " user__username='northside-pathologist').delete()[0]"
    )
    assert found == []
