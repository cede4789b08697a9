"""The table's part for signing in and for one's own account; Row says how to read it."""

from tests.permissions.row import Row

ACCOUNTS = [
    Row("login", public=True, signed_in=302),
    Row("logout", "POST", public=True, ok=302),
    Row("password"),
    Row("confirm_identity"),
]
