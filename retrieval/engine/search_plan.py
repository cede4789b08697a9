"""Which way to the nearest vectors costs least: every row, or the HNSW graph. No database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Way = Literal["exact", "index"]

# Measured on two cores of a server with the table in memory (`manage.py measure_search` measures
# a site's own): a row of an exact scan, a visited node of the graph, and what a walk costs
# before its first answer.
EXACT_US, VISIT_US, WALK_US = 8.0, 25.0, 4000.0
EF_SEARCH_MIN, EF_SEARCH_MAX = 100, 1000  # pgvector's own bound is 1000
# A set so small that all of it is compared, mosaic by mosaic.
COMPARE_ALL = 1000


@dataclass(frozen=True)
class Costs:
    """What the two ways cost on one site.

    Attributes
    ----------
    exact_us : float
        Microseconds for each row of an exact scan.
    visit_us : float
        Microseconds for each candidate that the graph yields, passed by the filters or not.
    walk_us : float
        Microseconds before the first one.
    ef_search : mapping of int to int
        For a number of answers, the ef_search that reached the recall aimed at.
    slides : int
        In the archive when that was measured; a large one where nothing was.
    """

    exact_us: float = EXACT_US
    visit_us: float = VISIT_US
    walk_us: float = WALK_US
    ef_search: Mapping[int, int] = field(default_factory=dict)
    slides: int = 100_000


@dataclass(frozen=True)
class Plan:
    """How the candidates of one question are found.

    Attributes
    ----------
    way : "exact" or "index"
    rows : int
        Estimated rows that may answer.
    limit : int
        Candidates to return.
    ef_search : int
        Width of the walk through the graph.
    expected_us : float
        What the chosen way should cost.
    """

    way: Way
    rows: int
    limit: int
    ef_search: int
    expected_us: float


def ef_search_for(limit: int, costs: Costs) -> int:
    """Return ef_search for so many answers: measured, or twice as many where nothing was."""
    measured = [ef for answers, ef in sorted(costs.ef_search.items()) if answers >= limit]
    wanted = measured[0] if measured else 2 * limit
    return min(EF_SEARCH_MAX, max(EF_SEARCH_MIN, limit, wanted))


def choose(rows: int, total: int, limit: int, costs: Costs | None = None) -> Plan:
    """Return the cheaper way to `limit` candidates.

    Parameters
    ----------
    rows : int
        Estimated rows that the user may see and that pass the filters.
    total : int
        Estimated rows of the model's index.
    limit : int
        Candidates wanted; in a set of at most `COMPARE_ALL` rows, all of them are.
    costs : Costs
        Of this site.

    Raises
    ------
    ValueError
        When `limit` is not positive.
    """
    if limit < 1:
        raise ValueError("at least one candidate is wanted")
    costs = costs or Costs()
    rows = max(1, rows)
    if rows <= COMPARE_ALL:
        limit = max(limit, COMPARE_ALL)
    ef_search = ef_search_for(limit, costs)
    exact = rows * costs.exact_us
    # The walk goes on until enough candidates have passed the filters.
    visited = max(ef_search, limit * max(total, rows) / rows)
    walk = costs.walk_us + visited * costs.visit_us
    way: Way = "exact" if exact <= walk else "index"
    return Plan(way, rows, limit, ef_search, min(exact, walk))
