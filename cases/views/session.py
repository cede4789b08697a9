"""Signing in and out, confirming who one is, and one's password."""

from typing import Any

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login as PendingLogin
from allauth.mfa.base.forms import ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.forms import ReauthenticateWebAuthnForm
from allauth.mfa.webauthn.internal.auth import begin_authentication
from allauth.socialaccount.models import SocialAccount
from django import forms
from django.contrib.auth import authenticate, views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from cases.models import DirectoryAccount
from cases.recent_authentication import authentication_note, safe_next
from cases.services.audit import Action, access_event_record
from cases.sign_on.links import sign_on_links


class LoginView(views.LoginView):
    """The password; where the account has a second factor, that page comes next."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        kwargs["providers"] = sign_on_links(self.request, self.get_redirect_url())
        kwargs["directory_is_down"] = getattr(self.request, "directory_is_down", False)
        return super().get_context_data(**kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        user = form.get_user()
        return perform_password_login(
            self.request,
            {"username": user.get_username()},
            PendingLogin(user=user, redirect_url=self.get_success_url()),
        )


class PasswordView(views.PasswordChangeView):
    """Change one's password; all other sessions end with the old one."""

    template_name = "registration/password.html"
    success_url = reverse_lazy("my_account")

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        access_event_record(
            user=self.request.user,
            action=Action.CHANGE,
            target=self.request.user,
            detail={"fields": ["password"]},
        )
        return response


login = LoginView.as_view()
logout = views.LogoutView.as_view()
password = PasswordView.as_view()


class PasswordForm(forms.Form):
    """The password once more, tried by the same road as at the sign-in, lockout included."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )

    def __init__(self, request: HttpRequest, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_password(self) -> str:
        value = self.cleaned_data["password"]
        name = self.request.user.get_username()
        found = authenticate(self.request, username=name, password=value)
        if found is None or found.pk != self.request.user.pk:
            raise forms.ValidationError(_("That is not your password."))
        return value

    def save(self) -> None:
        """Record the proof."""
        access_event_record(
            user=self.request.user,
            action=Action.LOGIN,
            target=self.request.user,
            detail={"confirmed_by": "password"},
        )


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def confirm_identity(request: HttpRequest) -> HttpResponse:
    """Ask who sits there by password, passkey or code; note it; go back to where it was needed."""
    to = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    ways = _ways(request)
    for name, form in ways.items():
        if form.is_bound and form.is_valid():
            form.save()
            authentication_note(request)
            request.session.cycle_key()
            return HttpResponseRedirect(to)
        if form.is_bound and name == "passkey":
            form.fields["credential"].initial = ""
    options = begin_authentication(request.user) if "passkey" in ways else None
    own = set(SocialAccount.objects.filter(user=request.user).values_list("provider", flat=True))
    links = sign_on_links(request, to, own, auth_params="prompt=login&max_age=0")
    context = {
        "providers": links,
        **{f"{name}_form": form for name, form in ways.items()},
        "next": to,
    }
    return render(request, "registration/confirm.html", {**context, "passkey_options": options})


def _ways(request: HttpRequest) -> dict[str, Any]:
    """Return the forms by which this user can prove it; what was posted is bound to its own."""
    user, sent = request.user, request.POST
    kinds = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    ways: dict[str, Any] = {}
    if user.has_usable_password() or DirectoryAccount.objects.filter(user=user).exists():
        ways["password"] = PasswordForm(request, sent if "password" in sent else None)
    if kinds & {Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES}:
        ways["code"] = ReauthenticateForm(user=user, data=sent if "code" in sent else None)
    if Authenticator.Type.WEBAUTHN in kinds:
        data = sent if "credential" in sent else None
        ways["passkey"] = ReauthenticateWebAuthnForm(user=user, data=data)
    return ways
