"""The permission table's rows of the pages that ask and answer."""

from tests.permissions.row import Row
from tests.permissions.world import MISSING, WORD

SEARCHES = [
    Row("search", nobody=403),
    Row(
        "search",
        "POST",
        ok=302,
        nobody=403,
        body=lambda _world, _place: {"text": WORD},
        form=True,
    ),
    Row("search_slide", "POST", of="slide_image", ok=302, gate=True, nobody=403, form=True),
    Row("compare", of="slide_image"),
    Row("slide_places", of="slide_image"),
    Row("search_results", of="search"),
    Row("searches_recent", nobody=403),
    Row("saved_searches", nobody=403),
    Row(
        "saved_search_new",
        "POST",
        of="search",
        ok=302,
        body=lambda _world, place: {"name": f"Saved {place}"},
        form=True,
    ),
    # A saved search is its owner's alone: tests/retrieval/test_saved_searches.py.
    *(
        Row(name, "POST", ok=404, nobody=404, url=lambda _w, _p: {"pk": MISSING})
        for name in ("saved_search_open", "saved_search_remove")
    ),
    Row("map", nobody=403),
    # What it holds is tried in tests/retrieval/test_archive_map.py.
    Row("map_points", nobody=403),
    Row("search_facets", of="search"),
    Row("search_export", of="search", roles="PRD"),
    Row("searches", lists="own search", nobody=403),
    Row("search_image", of="search"),
    Row(
        "search_feedback",
        "POST",
        of="search",
        roles="PRD",
        ok=302,
        body=lambda world, place: {"hit": world.id("hit", place), "verdict": "relevant"},
        form=True,
    ),
    Row("search_refine", "POST", of="search", roles="PRD", ok=302),
]
