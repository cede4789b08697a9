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
# A directory takes a name in capitals, too: that must not begin a count of its own.
AXES_USERNAME_CALLABLE = "cases.sign_on.limits.name_that_counts"
AXES_LOCKOUT_TEMPLATE = "registration/locked_out.html"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "work_list"
LOGOUT_REDIRECT_URL = "login"

# People are known by the name that an administrator gave, never by a mail address.
ACCOUNT_ADAPTER = "cases.sign_on.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False

REAUTHENTICATION_MINUTES = env.integer(
    "PATHSEARCH_REAUTHENTICATION_MINUTES",
    10,
    "Minutes after which a sensitive act asks again for the password, passkey or code",
)
ACCOUNT_REAUTHENTICATION_TIMEOUT = REAUTHENTICATION_MINUTES * 60

EMERGENCY_MINUTES = env.integer(
    "PATHSEARCH_EMERGENCY_MINUTES", 60, "Minutes for which emergency access opens a case"
)
CONSULT_DAYS = env.integer(
    "PATHSEARCH_CONSULT_DAYS", 90, "Days for which a case can be shown to a consultant at most"
)

MFA_ADAPTER = "cases.sign_on.adapters.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True  # there is no e-mail to verify
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_TOLERANCE = 1  # a clock may be half a minute off
MFA_ROLES = env.words(
    "PATHSEARCH_MFA_ROLES",
    "auto",
    "Roles that must give a second factor, with commas; auto: system_administrator and auditor "
    "under the production settings, nobody else; none: nobody",
)
if MFA_ROLES in (["auto"], ["none"]):
    MFA_ROLES_ARE_AUTO = MFA_ROLES == ["auto"]
    MFA_ROLES = []
else:
    MFA_ROLES_ARE_AUTO = False

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = (
    env.integer("PATHSEARCH_SESSION_HOURS", 10, "Hours after which a session ends, used or not")
    * 3600
)
SESSION_IDLE_SECONDS = (
    env.integer(
        "PATHSEARCH_SESSION_IDLE_MINUTES",
        60,
        "Minutes without use after which a session ends; 0: only its hours count",
    )
    * 60
)
