"""Figures for a monitor, in the text form of Prometheus: of the site, never of a patient."""

from datetime import timedelta

import numpy as np
from django.db.models import Count
from django.utils import timezone
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from cases.models import EmergencyAccess
from cases.row_scope import acting_for_system
from retrieval.models import SearchQuery, SearchSelfCheck
from retrieval.services.search_evidence import STAGES

# What the figures of speed are of.
_WINDOW = timedelta(hours=1)
_SEARCHES_MOST = 5_000


def metrics_text() -> bytes:
    """Return the newest self-check of each department and model, and the last hour's speed."""
    registry = CollectorRegistry()
    labels = ["department", "model"]
    recall = Gauge(
        "pathsearch_search_recall", "recall@10 against exact search", labels, registry=registry
    )
    alert = Gauge(
        "pathsearch_search_recall_alert", "1 where recall is too low", labels, registry=registry
    )
    at = Gauge(
        "pathsearch_search_recall_checked", "Unix time of the check", labels, registry=registry
    )
    newest = SearchSelfCheck.objects.order_by("department_id", "model_id", "-checked_at").distinct(
        "department_id", "model_id"
    )
    for row in newest.select_related("department", "model"):
        of = {"department": row.department.code, "model": row.model.name}
        recall.labels(**of).set(row.recall)
        alert.labels(**of).set(row.is_alert)
        at.labels(**of).set(row.checked_at.timestamp())
    with acting_for_system("figures of the site for its monitor, who is nobody's member"):
        _speed(registry)
        _emergencies(registry)
    return generate_latest(registry)


def _emergencies(registry: CollectorRegistry) -> None:
    """Say how many emergency accesses of each department are open, and how many unreviewed."""
    for name, text, rows in (
        ("open", "Open now", EmergencyAccess.objects.open()),
        ("unreviewed", "Not reviewed yet", EmergencyAccess.objects.filter(outcome="")),
    ):
        gauge = Gauge(
            f"pathsearch_emergency_accesses_{name}", text, ["department"], registry=registry
        )
        counted = rows.order_by().values_list("department__code").annotate(count=Count("pk"))
        for code, count in counted:
            gauge.labels(code).set(count)


def _speed(registry: CollectorRegistry) -> None:
    count = Gauge("pathsearch_searches_last_hour", "Searches answered", registry=registry)
    seconds = Gauge(
        "pathsearch_search_seconds",
        "Seconds of the last hour's searches, whole and by stage",
        ["stage", "quantile"],
        registry=registry,
    )
    recent = SearchQuery.objects.filter(created_at__gt=timezone.now() - _WINDOW)
    rows = list(recent.order_by("-created_at").values_list("seconds", "timings")[:_SEARCHES_MOST])
    count.set(len(rows))
    taken = {"all": [whole for whole, _timings in rows]}
    for stage in STAGES:
        taken[stage] = [timings[stage] for _whole, timings in rows if stage in timings]
    for stage, values in taken.items():
        for quantile in (0.5, 0.95, 0.99) if values else ():
            seconds.labels(stage, str(quantile)).set(float(np.quantile(values, quantile)))
