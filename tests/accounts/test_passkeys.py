"""Passkeys in a real Chromium, with an authenticator that the browser plays."""

import pytest
from playwright.sync_api import sync_playwright

from cases.models import AccessEvent
from tests.accounts.conftest import PASSWORD
from tests.factories import UserFactory

AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_passkey_is_added_and_signs_in_alone(live_server, monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # the browser's loop is no request's
    UserFactory(username="ada")
    url = live_server.url.replace("127.0.0.1", "localhost")  # passkeys belong to names
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page()
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        page.goto(f"{url}/login/")
        page.fill("input[name=username]", "ada")
        page.fill("input[name=password]", PASSWORD)
        page.click("main form button")
        page.wait_for_url(lambda address: "/login/" not in address)
        page.goto(f"{url}/account/second-factor/passkeys/add/")
        page.check("input[name=passwordless]")
        page.click("#mfa_webauthn_add")
        page.wait_for_url("**/codes/**")
        page.context.clear_cookies()
        page.goto(f"{url}/login/")
        page.click("#passkey_login")
        page.wait_for_url(lambda address: "/login/" not in address)
        page.goto(f"{url}/account/")
        assert "ada" in page.text_content("main")
        browser.close()
    used = AccessEvent.objects.filter(action="login", detail__factor="webauthn")
    assert used.get().detail["passkey"] is True
