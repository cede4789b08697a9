"""Settings of accounts and sign-on."""

from pathsearch_site.settings import env

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {
            "min_length": env.integer(
                "PATHSEARCH_PASSWORD_LENGTH", 10, "Fewest characters of a password"
            )
        },
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AXES_FAILURE_LIMIT = env.integer(
    "PATHSEARCH_LOGIN_FAILURE_LIMIT", 8, "Failed logins before a user name is locked at an address"
)
AXES_COOLOFF_TIME = 0.5  # hours
AXES_VERBOSE = False  # no banner in each process
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "registration/locked_out.html"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "work_list"
LOGOUT_REDIRECT_URL = "login"

REAUTHENTICATION_MINUTES = env.integer(
    "PATHSEARCH_REAUTHENTICATION_MINUTES",
    10,
    "Minutes after which a sensitive act asks again for the password, passkey or code",
)

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = (
    env.integer("PATHSEARCH_SESSION_HOURS", 10, "Hours until a session ends") * 3600
)
