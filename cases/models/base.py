"""What every record has."""

import uuid
from typing import Any, Self

from django.db import models

from cases import identity


class Record(models.Model):
    """A row with an unguessable public id and its times.

    A row that its reader may not know by name is veiled where it is born: see cases.identity.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any) -> Self:
        row = super().from_db(db, field_names, values)
        identity.veil(row)
        return row

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        identity.veil_again(self)

    def save_base(self, *args: Any, **kwargs: Any) -> None:
        identity.require_plain(self)
        super().save_base(*args, **kwargs)
