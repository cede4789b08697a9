"""What is wrong with an answer, whoever asked and for whatever."""

import re

from tests.attacks.site import AttackedSite, Attacker, Reply

# Random in each answer.
_RANDOM = re.compile(
    rb'(csrfmiddlewaretoken" value="|X-CSRFToken": "|X-CSRFToken&quot;: &quot;)[A-Za-z0-9]+'
)
# Of earlier requests of the same actor.
_MESSAGES = re.compile(
    rb'<(ul class="messagelist"|div class="messages").*?</(ul|div)>'
    rb'|<main [^>]*>|<div id="main"[^>]*>',
    re.S,
)
# allauth's, for the minute between a SAML answer and its reading: it holds a key, no session of
# a user, and its name and kind cannot be set.
_FOREIGN_COOKIES = {"saml-acs-session"}
_DIRECTIVES = ("unsafe-inline", "unsafe-eval", "unsafe-hashes", "http:", "https:", "*")


def plain(reply: Reply, path: str, *named: str) -> bytes:
    """Return the body without what is random and without what the request itself named."""
    body = _MESSAGES.sub(b"", _RANDOM.sub(rb"\1", reply.body))
    body = b"\n".join(line.strip() for line in body.splitlines() if line.strip())
    for text in sorted({path, *named}, key=len, reverse=True):
        if len(text) > 5:
            body = body.replace(text.encode(), b"*")
    return body


def leaks(site: AttackedSite, attacker: Attacker, reply: Reply, sent: str) -> list[str]:
    """Return texts of places that the actor must not know of and the request did not name."""
    text = f"{reply.text}\n{reply.headers}"
    return [
        marker
        for place, markers in site.world["markers"].items()
        if place not in attacker.actor.places
        for marker in markers
        if marker in text and marker not in sent
    ]


def faults(reply: Reply, *, signed_in: bool) -> list[str]:
    """Return what any answer of the site must have and this one has not."""
    wrong = []
    headers = reply.headers
    if reply.status >= 500:
        wrong.append(f"a {reply.status}")
    if headers.get("x-content-type-options") != "nosniff":
        wrong.append("no nosniff")
    if "max-age=31536000" not in headers.get("strict-transport-security", ""):
        wrong.append("no HSTS")
    if "server" in headers or "x-powered-by" in headers:
        wrong.append("names its server")
    kind = headers.get("content-type", "").split(";")[0]
    policy = headers.get("content-security-policy", "")
    if kind in {"text/html", "image/svg+xml", "application/xml", "text/xml"}:
        words = policy.replace(";", " ").split()
        wrong += [
            f"CSP allows {word}" for word in _DIRECTIVES if word in {w.strip("'") for w in words}
        ]
        if "default-src" not in policy or "frame-ancestors 'none'" not in policy:
            wrong.append("no CSP")
    cache = headers.get("cache-control", "")
    # A tile may be kept by the browser alone, anything else by nobody.
    kept = "no-store" not in cache and ("private" not in cache or kind == "text/html")
    if signed_in and reply.status == 200 and kept:
        wrong.append(f"may be kept in caches ({kind}, {cache!r})")
    for cookie in reply.set_cookies:
        name, low = cookie.split("=")[0], cookie.lower()
        if "max-age=0" in low or name in _FOREIGN_COOKIES:
            continue  # the first is taken away
        if not name.startswith("__Host-") and name != "django_language":
            wrong.append(f"the cookie {name} is no __Host- cookie")
        if "secure" not in low or "samesite=" not in low or "path=/" not in low:
            wrong.append(f"the cookie {name} is not Secure, SameSite and of the whole site")
        if "session" in low.split("=")[0] and "httponly" not in low:
            wrong.append(f"scripts can read the cookie {name}")
    return wrong
