"""Signing in and out, confirming who one is, and one's password."""

from django import forms
from django.contrib.auth import authenticate, views
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from cases.recent_authentication import authentication_note, safe_next
from cases.services.audit import Action, access_event_record

login = views.LoginView.as_view(redirect_authenticated_user=True)
logout = views.LogoutView.as_view()
password = views.PasswordChangeView.as_view(
    template_name="registration/password.html", success_url=reverse_lazy("work_list")
)


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


@login_required
@require_http_methods(["GET", "POST"])
def confirm_identity(request: HttpRequest) -> HttpResponse:
    """Ask who sits there, note the proof, and go back to where it was needed."""
    to = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    form = PasswordForm(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        authentication_note(request)
        request.session.cycle_key()
        access_event_record(
            user=request.user,
            action=Action.LOGIN,
            target=request.user,
            detail={"confirmed_by": "password"},
        )
        return HttpResponseRedirect(to)
    return render(request, "registration/confirm.html", {"form": form, "next": to})
