"""The rows of a queryset, sent by Postgres as they are kept.

Django asks Postgres for text: bytes then come as hexadecimal digits, twice as many, and each key
has to be read from its digits. A search reads some thousand keys and megabytes of tokens.
"""

from typing import Any

import psycopg
from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet


def binary_rows(rows: QuerySet) -> list[tuple[Any, ...]]:
    """Return the rows of a `values_list` queryset as tuples: UUID, bytes, int, float, None.

    What a field of Django makes of a value (`from_db_value`) is left out, so ask for plain columns.
    """
    try:
        statement, parameters = rows.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return []
    # Opened by Django: it says whose rows may be seen, and its errors are those that callers know.
    with connections[rows.db].cursor() as cursor, connections[rows.db].wrap_database_errors:
        asked = cursor.mogrify(statement, parameters)
        with psycopg.Cursor(cursor.connection) as plain:
            # Not prepared: the plan is made for these values, and each vector is another one.
            return plain.execute(asked, binary=True, prepare=False).fetchall()
