"""The values of a column that a user sees, without reading every row for them."""

from typing import Any

from django.db import connection
from django.db.models import QuerySet

_SQL = """
WITH RECURSIVE known AS (
  (SELECT min({column}) AS value FROM {table})
  UNION ALL
  SELECT (SELECT min({column}) FROM {table} WHERE {column} > known.value)
  FROM known WHERE known.value IS NOT NULL
)
SELECT known.value FROM known
CROSS JOIN LATERAL (
  SELECT 1 FROM ({seen}) AS seen WHERE seen.{column} = known.value LIMIT 1
) AS one
WHERE known.value <> ''
ORDER BY known.value
"""


def distinct_seen(rows: QuerySet[Any], field: str) -> list[str]:
    """Return the values other than "" of an indexed text field in these rows, in order.

    The index gives the few values of the whole table, each by one step; of each, one row that
    is among `rows` is looked for. DISTINCT would read all rows: 55 ms at 100,000.
    """
    column = connection.ops.quote_name(rows.model._meta.get_field(field).column)
    if rows.query.is_empty():
        return []
    seen, parameters = rows.order_by().values(field).query.sql_with_params()
    statement = _SQL.format(
        column=column, table=connection.ops.quote_name(rows.model._meta.db_table), seen=seen
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [value for (value,) in cursor.fetchall()]
