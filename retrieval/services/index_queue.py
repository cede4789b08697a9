"""Which row of indexing is worked on next.

A row of the active model has its message in the queue from the start. Rows of models that are
only kept current wait without one (`enqueued_at` is empty) and are woken a few at a time: a new
slide never stands behind the re-embedding of a whole archive.
"""

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from cases.models import SlideImage
from cases.services.queue import enqueue, messages_wait
from retrieval.models import EmbeddingModel, SlideIndex

TASK = "retrieval.tasks.index_slide_task"
CLUSTER = "indexing"
State = SlideIndex.State
# Of a queued row: more instances of its series may come by network.
SETTLING = "settling"
# Messages of waiting rows that lie in the queue at one time.
WOKEN = 4


def index_enqueue(index: SlideIndex) -> None:
    """Wake an indexing worker for this row."""
    enqueue(TASK, index, cluster=CLUSTER)


def waiting_rows() -> QuerySet[SlideIndex]:
    """Return the rows that wait to be woken and need not wait for features any more."""
    first = SlideIndex.objects.filter(
        slide_image_id=OuterRef("slide_image_id"),
        model__is_active=True,
        model__encoder=OuterRef("model__encoder"),
        state__in=[State.QUEUED, State.RUNNING],
    ).exclude(pk=OuterRef("pk"))
    in_use = Q(model__is_kept_current=True) | Q(model__is_active=True)
    rows = SlideIndex.objects.filter(in_use, ~Exists(first))
    rows = rows.filter(state=State.QUEUED, enqueued_at__isnull=True)
    return rows.exclude(reason_code=SETTLING)


def wake_waiting(index: SlideIndex) -> int:
    """After a row was worked on: wake those of the same slide, and others up to the few."""
    rows = waiting_rows()
    with transaction.atomic():
        own = _wake(rows.filter(slide_image_id=index.slide_image_id), limit=10)
        in_queue = SlideIndex.objects.filter(state=State.QUEUED, enqueued_at__isnull=False)
        # While new slides wait, the re-embedding of old ones stands back.
        return own + _wake(rows, limit=max(0, WOKEN - in_queue.count()))


def wake_idle() -> int:
    """Wake waiting rows where the workers have nothing to do; returns how many."""
    if messages_wait(CLUSTER):
        return 0
    with transaction.atomic():
        return _wake(waiting_rows(), limit=WOKEN)


def _wake(rows: QuerySet[SlideIndex], *, limit: int) -> int:
    if limit <= 0:
        return 0
    # Locked rows are being woken by another worker at this moment.
    found = list(
        rows.select_for_update(skip_locked=True, of=("self",)).order_by("created_at", "pk")[:limit]
    )
    for row in found:
        index_enqueue(row)
    return len(found)


def rows_make(model: EmbeddingModel, *, most: int | None = None, batch: int = 1000) -> int:
    """Make a waiting row for slide images that the model has none for; returns how many."""
    made = 0
    while most is None or made < most:
        bare = list(
            SlideImage.objects.exclude(indexes__model=model)
            .order_by("pk")
            .values_list("pk", "department_id")[:batch]
        )
        if not bare:
            break
        rows = SlideIndex.objects.bulk_create(
            [
                SlideIndex(slide_image_id=pk, department_id=department, model=model)
                for pk, department in bare
            ],
            # A slide that arrived at this moment has its row already.
            ignore_conflicts=True,
        )
        made += len(rows)
    return made
