"""Pages of lists that can be as long as the archive."""

from functools import cached_property

from django.core.paginator import Paginator
from django.db.models import QuerySet

COUNT_MOST = 10_000


class BoundedPaginator(Paginator):
    """A paginator that counts, and pages, no further than COUNT_MOST rows.

    Beyond that nobody pages, and neither the count nor the skipping is for nothing: who looks
    for an old case narrows the list.
    """

    def __init__(self, rows: QuerySet, per_page: int, *, counted: QuerySet | None = None) -> None:
        """counted: the same rows without what only their display needs; default: `rows`."""
        super().__init__(rows, per_page)
        self.counted = rows if counted is None else counted

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most COUNT_MOST."""
        return min(self._bounded, COUNT_MOST)

    @property
    def is_more(self) -> bool:
        """Return whether there are more rows than `count` says."""
        return self._bounded > COUNT_MOST

    @cached_property
    def _bounded(self) -> int:
        return self.counted.order_by()[: COUNT_MOST + 1].count()
