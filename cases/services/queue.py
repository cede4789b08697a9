"""Puts work on the django-q2 queue, inside the caller's transaction.

The queue is a table of the same database (ORM broker): the message commits with the rows.
"""

from typing import Any

from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ
from django_q.tasks import async_task

from cases.models import LeasedWork


def enqueue(task: str, row: LeasedWork, *, cluster: str = "default", **options: Any) -> None:
    """Queue `task(str(row.pk))` and note when. Pass ids only: the payload is a pickle."""
    type(row)._base_manager.filter(pk=row.pk).update(enqueued_at=timezone.now())
    # The default cluster is asked for by no name: naming it would look it up in ALT_CLUSTERS.
    if cluster != "default":
        options["cluster"] = cluster
    async_task(task, str(row.pk), **options)


def messages_wait(cluster: str = "default") -> bool:
    """Return whether messages of the cluster lie there that no worker has fetched yet."""
    key = get_broker().list_key if cluster == "default" else cluster
    return OrmQ.objects.filter(key=key, lock__lte=timezone.now()).exists()
