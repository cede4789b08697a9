"""Signing in and out, and one's password."""

from django.contrib.auth import views
from django.urls import reverse_lazy

login = views.LoginView.as_view(redirect_authenticated_user=True)
logout = views.LogoutView.as_view()
password = views.PasswordChangeView.as_view(
    template_name="registration/password.html", success_url=reverse_lazy("work_list")
)
