"""The schema describes what is there, and its docs work under the site's strict CSP."""

import shutil

import pytest
from django.core.management import call_command
from django.test import Client


def test_the_schema_is_valid_and_without_warnings(tmp_path):
    call_command(
        "spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml")
    )


def test_every_operation_names_its_security_and_its_errors(client):
    schema = client.get("/api/v1/schema/?format=json").json()
    operations = [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 20
    for path, method, operation in operations:
        assert "default" in operation["responses"], (path, method)
        assert {"apiToken": []} in operation["security"], (path, method)
        assert {} not in operation["security"], (path, method)


def test_the_docs_page_has_nothing_inline_and_nothing_from_outside():
    answer = Client().get("/api/v1/docs/")
    body = answer.content.decode()
    assert "<style" not in body
    assert "<script>" not in body
    assert 'style="' not in body
    assert "://" not in body
    assert "unsafe" not in answer["Content-Security-Policy"]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_docs_work_in_a_browser(live_server, monkeypatch):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright runs a loop here
    complaints, asked = [], []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{live_server.url}/api/v1/docs/")
        route = page.locator("#operations-cases-cases_by_accession_update")
        route.locator("button.opblock-summary-control").click()
        page.wait_for_selector("text=accession_number")
        browser.close()
    assert complaints == []
    assert all(url.startswith((live_server.url, "data:", "blob:")) for url in asked)
