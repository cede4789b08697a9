"""The table's part for signing in and for one's own account; Row says how to read it.

Sessions and second factors are one's own alone: tests/accounts tries another's.
"""

from typing import Any

from tests.permissions.row import Row


def _no_such_number(_world: Any, _place: str) -> dict[str, int]:
    return {"pk": 0}


ACCOUNTS = [
    Row("login", public=True, signed_in=302),
    Row("logout", "POST", public=True, ok=302),
    Row("account_login", public=True, signed_in=302),
    Row("account_logout", "POST", public=True, ok=302),
    Row("account_inactive", public=True),
    # Without a sign-in under way these lead back to its start.
    Row("mfa_login_webauthn", public=True, ok=302),
    Row("mfa_authenticate", public=True, ok=302),
    # No provider is configured here; tests/accounts signs on at real ones.
    *(
        Row(name, public=True, ok=404, url=lambda _world, _place: {"provider_id": "none"})
        for name in ("openid_connect_login", "openid_connect_callback")
    ),
    *(
        Row(name, public=True, ok=status, url=lambda _world, _place: {"organization_slug": "none"})
        for name, status in (
            ("saml_login", 404),
            ("saml_acs", 302),
            ("saml_finish_acs", 404),
            ("saml_sls", 404),
            ("saml_metadata", 404),
        )
    ),
    Row("socialaccount_login_cancelled", public=True),
    Row("socialaccount_login_error", public=True, ok=401),
    Row("password"),
    Row("confirm_identity"),
    Row("my_account"),
    Row("presentation", "POST", ok=302, nobody=302),
    Row("sessions_end", "POST", ok=302, nobody=302),
    Row("session_end", "POST", ok=404, nobody=404, url=_no_such_number),
    Row("mfa_index"),
    Row("mfa_activate_totp"),
    Row("mfa_list_webauthn"),
    Row("mfa_add_webauthn"),
    Row("mfa_generate_recovery_codes"),
    # The cast has no second factor.
    *(
        Row(name, ok=404, nobody=404)
        for name in (
            "mfa_deactivate_totp",
            "mfa_view_recovery_codes",
            "mfa_download_recovery_codes",
        )
    ),
    *(
        Row(name, ok=404, nobody=404, url=_no_such_number)
        for name in ("mfa_remove_webauthn", "mfa_edit_webauthn")
    ),
]
