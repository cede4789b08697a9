"""A real OpenID provider on loopback: allauth's own, in a process and with a database of its own.

    python -m tests.accounts.oidc_provider PORT FOLDER CALLBACK

FOLDER/claims.json holds what is told of the one user besides the name; tests change it.
"""

import json
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

PASSWORD = "provider's own horse"
SECRET = "shared with the site alone"


def configure(folder: Path) -> None:
    """Set Django up as an OpenID provider that keeps its rows in the folder."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from django.conf import settings

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    settings.configure(
        SECRET_KEY="of the provider",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "allauth",
            "allauth.account",
            "allauth.idp.oidc",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "allauth.account.middleware.AccountMiddleware",
        ],
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        LOGIN_URL="/login/",
        ACCOUNT_LOGIN_METHODS={"username"},
        ACCOUNT_SIGNUP_FIELDS=["username*", "password1*"],
        ACCOUNT_EMAIL_VERIFICATION="none",
        IDP_OIDC_PRIVATE_KEY=key.decode(),
        IDP_OIDC_ADAPTER=f"{__name__}.Adapter",
        CLAIMS_FILE=folder / "claims.json",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )


def populate(callback: str) -> None:
    """Make the tables, the one user, and the site as a client."""
    from allauth.idp.oidc.models import Client
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_user("ada", password=PASSWORD, first_name="Ada", last_name="Lovelace")
    Client.objects.create(
        id="pathsearch",
        name="PathSearch",
        secret=make_password(SECRET),
        redirect_uris=callback,
        scopes="openid\nprofile\nemail",
        skip_consent=True,
    )


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_args) -> None:
        pass


def main() -> None:
    """Serve until the process is ended; say on standard output when it is ready."""
    import django
    from django.core.wsgi import get_wsgi_application

    folder = Path(sys.argv[2])
    configure(folder)
    django.setup()
    define()
    populate(sys.argv[3])
    server = make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application(), Server, Quiet)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def define() -> None:
    """Make what can only be made once Django is set up: the claims and the addresses."""
    from allauth.idp.oidc.adapter import DefaultOIDCAdapter
    from django.conf import settings
    from django.urls import include, path

    class Adapter(DefaultOIDCAdapter):
        def get_claims(self, *args, **kwargs):
            told = json.loads(settings.CLAIMS_FILE.read_text())
            return {**super().get_claims(*args, **kwargs), **told}

    here = sys.modules[__name__]
    here.Adapter = Adapter
    here.urlpatterns = [path("", include("allauth.urls")), path("", include("allauth.idp.urls"))]


if __name__ == "__main__":
    sys.modules["tests.accounts.oidc_provider"] = sys.modules[__name__]
    __name__ = "tests.accounts.oidc_provider"
    main()
