"""Signing in and out, second factors, and one's own account.

Routes of allauth are named one by one: what the house does not offer (signing up, e-mail,
password by mail) is not there.
"""

from allauth.account.views import account_inactive
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from allauth.socialaccount import views as social
from allauth.socialaccount.providers.openid_connect import views as oidc
from allauth.socialaccount.providers.saml import views as saml
from django.urls import path

from cases.views import account, session

urlpatterns = [
    path("login/", session.login, name="login"),
    path("logout/", session.logout, name="logout"),
    # Where allauth sends people.
    path("login/", session.login, name="account_login"),
    path("logout/", session.logout, name="account_logout"),
    path("login/inactive/", account_inactive, name="account_inactive"),
    path("login/passkey/", webauthn.login_webauthn, name="mfa_login_webauthn"),
    path("login/code/", mfa.authenticate, name="mfa_authenticate"),
    path("login/oidc/<slug:provider_id>/", oidc.login, name="openid_connect_login"),
    path("login/oidc/<slug:provider_id>/back/", oidc.callback, name="openid_connect_callback"),
    path("login/saml/<slug:organization_slug>/", saml.login, name="saml_login"),
    path("login/saml/<slug:organization_slug>/acs/", saml.acs, name="saml_acs"),
    path(
        "login/saml/<slug:organization_slug>/acs/finish/", saml.finish_acs, name="saml_finish_acs"
    ),
    path("login/saml/<slug:organization_slug>/sls/", saml.sls, name="saml_sls"),
    path("login/saml/<slug:organization_slug>/metadata/", saml.metadata, name="saml_metadata"),
    path("login/cancelled/", social.login_cancelled, name="socialaccount_login_cancelled"),
    path("login/error/", social.login_error, name="socialaccount_login_error"),
    path("confirm/", session.confirm_identity, name="confirm_identity"),
    path("password/", session.password, name="password"),
    path("account/", account.my_account, name="my_account"),
    path("account/sessions/end/", account.sessions_end, name="sessions_end"),
    path("account/sessions/<int:pk>/end/", account.session_end, name="session_end"),
    path("account/second-factor/", mfa.index, name="mfa_index"),
    path("account/second-factor/app/", totp.activate_totp, name="mfa_activate_totp"),
    path("account/second-factor/app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path(
        "account/second-factor/codes/",
        recovery_codes.view_recovery_codes,
        name="mfa_view_recovery_codes",
    ),
    path(
        "account/second-factor/codes/new/",
        recovery_codes.generate_recovery_codes,
        name="mfa_generate_recovery_codes",
    ),
    path(
        "account/second-factor/codes/download/",
        recovery_codes.download_recovery_codes,
        name="mfa_download_recovery_codes",
    ),
    path("account/second-factor/passkeys/", webauthn.list_webauthn, name="mfa_list_webauthn"),
    path("account/second-factor/passkeys/add/", webauthn.add_webauthn, name="mfa_add_webauthn"),
    path(
        "account/second-factor/passkeys/<int:pk>/remove/",
        webauthn.remove_webauthn,
        name="mfa_remove_webauthn",
    ),
    path(
        "account/second-factor/passkeys/<int:pk>/edit/",
        webauthn.edit_webauthn,
        name="mfa_edit_webauthn",
    ),
]
