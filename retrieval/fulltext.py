"""Many tsqueries as one expression: flat, where Django's operators nest one in another."""

from collections.abc import Iterable
from typing import Any

from django.contrib.postgres.search import SearchQuery, SearchQueryField
from django.db.models import Func


class _Joined(SearchQuery):
    """Tsqueries joined by one operator; a hundred names of a term are compiled once each."""

    def __init__(self, queries: Iterable[SearchQuery], operator: str) -> None:
        self.operator = operator
        self.config, self.invert = None, False
        Func.__init__(self, *queries, output_field=SearchQueryField())

    def as_sql(
        self, compiler: Any, connection: Any, function: Any = None, template: Any = None
    ) -> tuple[str, list[Any]]:
        compiled = [compiler.compile(query) for query in self.source_expressions]
        sql = f" {self.operator} ".join(part for part, _params in compiled)
        return f"({sql})", [param for _part, params in compiled for param in params]


def any_of(queries: Iterable[SearchQuery]) -> SearchQuery:
    """Return the tsquery that one of these matches."""
    return _Joined(queries, "||")


def all_of(queries: Iterable[SearchQuery]) -> SearchQuery:
    """Return the tsquery that all of these match."""
    return _Joined(queries, "&&")
