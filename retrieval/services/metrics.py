"""Figures for a monitor, in the text form of Prometheus: of the site, never of a patient."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from retrieval.models import SearchSelfCheck


def metrics_text() -> bytes:
    """Return the newest self-check of each department and model."""
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
    return generate_latest(registry)
