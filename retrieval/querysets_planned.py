"""What a plan needs of the database: estimates of Postgres, and this site's measured costs."""

import json
import time
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import QuerySet

from retrieval.engine.search_plan import COMPARE_ALL, Costs, Plan, choose

# Estimates of whole tables change slowly; asking costs a round trip.
_KEPT_SECONDS = 60.0
_kept: dict[tuple[str, int], tuple[float, Any]] = {}


def estimated_rows(rows: QuerySet) -> int:
    """Return how many rows Postgres expects, from its statistics; nothing is counted."""
    told = json.loads(rows.order_by().values("pk").explain(format="json"))
    return max(1, int(told[0]["Plan"]["Plan Rows"]))


def planned(rows: QuerySet, model: Any, limit: int) -> Plan:
    """Return the way to the nearest of these rows (visible, filtered, of this model).

    settings.EXACT_SCAN_MAX, where it is not negative, decides instead of the costs.
    """
    # How many candidates there are decides what is found. It is counted, a little way, and never
    # estimated: an estimate is made of all rows, hidden ones too, and an answer must not be.
    counted = rows.order_by().values("pk")[: COMPARE_ALL + 1].count()
    if counted <= COMPARE_ALL:
        plan = choose(counted, counted, limit, costs_of(model))
    else:
        total = _remembered("total", model.pk, lambda: _total(rows, model))
        plan = choose(max(counted, estimated_rows(rows)), total, limit, costs_of(model))
    threshold = settings.EXACT_SCAN_MAX
    if threshold < 0:
        return plan
    way = "exact" if plan.rows <= threshold else "index"
    return Plan(way, plan.rows, plan.limit, plan.ef_search, plan.expected_us)


def costs_of(model: Any) -> Costs:
    """Return what the two ways cost for this model here: measured, or measured elsewhere."""
    return _remembered("costs", model.pk, lambda: _costs(model))


def plans_forget() -> None:
    """Forget what was remembered: after a measurement, and for tests."""
    _kept.clear()


def _total(rows: QuerySet, model: Any) -> int:
    return estimated_rows(rows.model._default_manager.filter(model=model))


def _costs(model: Any) -> Costs:
    row = apps.get_model("retrieval", "SearchCosts").objects.filter(model_id=model.pk).first()
    if row is None:
        return Costs()
    ef_search = {int(answers): int(ef) for answers, ef in row.ef_search.items()}
    return Costs(row.exact_us, row.visit_us, row.walk_us, ef_search, row.slides)


def _remembered(kind: str, key: int, ask: Any) -> Any:
    known = _kept.get((kind, key))
    if known is None or time.monotonic() - known[0] > _KEPT_SECONDS:
        known = (time.monotonic(), ask())
        _kept[(kind, key)] = known
    return known[1]
