"""Pages of lists that can be as long as the archive."""

from functools import cached_property

from django.core.paginator import Paginator

COUNT_MOST = 10_000


class BoundedPaginator(Paginator):
    """A paginator that counts, and pages, no further than COUNT_MOST rows.

    Beyond that nobody pages, and neither the count nor the skipping is for nothing: who looks
    for an old case narrows the list.
    """

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
        return self.object_list.order_by()[: COUNT_MOST + 1].count()
