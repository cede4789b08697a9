"""Presentation mode: what identifies is hidden in this session, for a tumour board or teaching."""

from urllib.parse import urlsplit

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from cases.sign_on.limits import PRESENTING


@login_required
@require_POST
def presentation(request: HttpRequest) -> HttpResponse:
    """Switch it on (`on=1`) or off, and go back to the page without its query, which may name."""
    if request.POST.get("on") == "1":
        request.session.setdefault(PRESENTING, timezone.now().isoformat())
    else:
        request.session.pop(PRESENTING, None)
    try:
        back = urlsplit(request.headers.get("Referer", "")).path
    except ValueError:
        back = ""
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = "work_list"
    return redirect(back)
