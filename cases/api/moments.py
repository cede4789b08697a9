"""Filters by a point in time, with whatever offset ISO 8601 allows."""

from datetime import UTC
from typing import Any

import django_filters as filters
from django.core.exceptions import ValidationError
from django_filters.fields import IsoDateTimeField, IsoDateTimeRangeField, RangeField


class _MomentField(IsoDateTimeField):
    """A time in UTC: Postgres refuses offsets that ISO 8601 allows (+17:00)."""

    def to_python(self, value: Any) -> Any:
        moment = super().to_python(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:  # before the year 1, after 9999
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error


class _MomentRangeField(IsoDateTimeRangeField):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        RangeField.__init__(self, (_MomentField(), _MomentField()), *args, **kwargs)


class MomentFilter(filters.IsoDateTimeFilter):
    """A time with any offset."""

    field_class = _MomentField


class MomentRangeFilter(filters.IsoDateTimeFromToRangeFilter):
    """Two times with any offset: `_after` and `_before`."""

    field_class = _MomentRangeField
