"""Where to sign on at the hospital's own providers."""

from collections.abc import Collection

from allauth.socialaccount.adapter import get_adapter
from django.conf import settings
from django.http import HttpRequest


def sign_on_links(
    request: HttpRequest, to: str, own: Collection[str] | None = None, **more: str
) -> list[dict[str, str]]:
    """Return name and url of each provider, or of those alone in which one has an account.

    own: what `SocialAccount.provider` says of one's accounts.
    """
    adapter = get_adapter(request)
    links = []
    for one in settings.SIGN_ON_PROVIDERS:
        provider = adapter.get_provider(request, one["id"])
        if own is not None and not ({one["id"], provider.id} & set(own)):
            continue
        query = {"process": "login", **({"next": to} if to else {}), **more}
        links.append({"name": one["name"], "url": provider.get_login_url(request, **query)})
    return links
