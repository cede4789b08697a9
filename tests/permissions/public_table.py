"""The table's part that is open to everybody; Row says how to read it."""

from tests.permissions.row import Row

PUBLIC = [
    Row("healthz", public=True),
    # Asks for a token of its own, of no user; without one set it is not there.
    Row("metrics", public=True, ok=404),
    Row("set_language", public=True, ok=302),
    Row(
        "set_language",
        "POST",
        public=True,
        ok=302,
        body=lambda _world, _place: {"language": "de"},
        form=True,
    ),
    Row("api_schema", public=True),
    Row("api_docs", public=True),
    Row("api_root", public=True, ok=302),
    Row("api_unknown", public=True, ok=404),
    Row(
        "api_unknown_route", public=True, ok=404, url=lambda _world, _place: {"rest": "v1/nothing/"}
    ),
    *(
        Row(name, method, public=True, ok=404, url=url)
        for name, url in (
            ("dicomweb-unknown", None),
            ("dicomweb-unknown-route", lambda _world, _place: {"rest": "nothing"}),
        )
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    ),
]
