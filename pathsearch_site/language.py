"""In which language an answer is written."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.locale import LocaleMiddleware
from django.utils import translation

# What machines read. Their logs and rules are written for one language, whatever a client's
# library says it accepts; a browser's own calls follow the choice of its user.
_MACHINES = ("/api/", "/dicomweb/", "/metrics", "/healthz")


class LanguageMiddleware:
    """Django's, but for answers to machines: English, unless a browser's user chose otherwise."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.of_pages = LocaleMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith(_MACHINES):
            return self.of_pages(request)
        chosen = request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, "")
        is_known = chosen in dict(settings.LANGUAGES)
        with translation.override(chosen if is_known else settings.LANGUAGE_CODE):
            return self.get_response(request)
