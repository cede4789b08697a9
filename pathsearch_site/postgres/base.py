"""Says to Postgres, before a statement, as which role and for whom it is made.

What was said holds for the session of the database, so that reads outside of a transaction are
covered, too. It is said anew when the scope changed, when the connection is another one (a pool
hands out used ones), and after a rollback, which takes back what was said in the transaction.
"""

from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

from cases.row_scope import SYSTEM, RowScope, current, words_of


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, which says the scope first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._scope_said: tuple[RowScope, bool] | None = None

    def connect(self) -> None:
        self._scope_said = None
        super().connect()

    def _rollback(self) -> None:
        self._scope_said = None
        super()._rollback()

    def _savepoint_rollback(self, sid: str) -> None:
        self._scope_said = None
        super()._savepoint_rollback(sid)

    def create_cursor(self, name: str | None = None) -> Any:
        self._say_scope()
        return super().create_cursor(name)

    def _say_scope(self) -> None:
        is_on = settings.ROW_SECURITY
        scope = current() if is_on else SYSTEM
        if self._scope_said == (scope, is_on):
            return
        # After an error nothing can be said until the rollback, nor asked.
        if self.connection.info.transaction_status == TransactionStatus.INERROR:
            return
        self.connection.execute(words_of(scope, is_on=is_on))
        self._scope_said = (scope, is_on)
