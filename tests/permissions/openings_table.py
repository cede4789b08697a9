"""The permission table's rows of consults and emergency access.

Who was asked, and who opened something, is tried in tests/cases/openings.
"""

from typing import Any

from tests.permissions.row import Row
from tests.permissions.world import MISSING


def _nothing(_world: Any, _place: str) -> dict[str, Any]:
    return {}


_FORM: dict[str, Any] = {"ok": 302, "form": True}

OPENINGS = [
    Row("consults", query="show=by-us&state=all", lists="consult", roles="PTD", nobody=403),
    Row("consult_ask", "POST", of="case", roles="PD", partner="denied", body=_nothing, **_FORM),
    # Nobody of the department that asks gives the opinion.
    Row(
        "consult_answer",
        "POST",
        of="consult",
        roles="",
        body=lambda _world, _place: {"opinion": "Mine"},
        **_FORM,
    ),
    Row("consult_end", "POST", of="consult", roles="PD", body=_nothing, **_FORM),
    # A token reads what its departments asked, a researcher none.
    Row("consults-list", lists="consult", roles="PTD", nobody=403),
    Row("consults-detail", of="consult", roles="PTD", gate=True, nobody=403),
    Row("emergency", roles="PT", nobody=403),
    # It is the person's alone who opened it.
    Row("emergency_end", "POST", ok=404, nobody=404, url=lambda _w, _p: {"pk": MISSING}),
    Row("emergency_reviews", query="show=all", lists="emergency", roles="D", nobody=403),
    Row("emergency_review", of="emergency", roles="D", gate=True, nobody=403),
]
