"""Locks that are held until the transaction ends."""

from django.db import connection

from cases.models import Department


def department_lock(department_id: int) -> Department:
    """Return the department, locked against other intakes until the transaction ends."""
    # NO KEY: rows that point to the department may be written meanwhile.
    return Department.objects.select_for_update(no_key=True).get(pk=department_id)


def one_at_a_time(what: str) -> None:
    """Wait until no other transaction does what goes by this name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [what])
