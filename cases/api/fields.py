"""Fields that resolve what a caller names, among what the caller may see."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from cases import permissions
from cases.errors import DomainError
from cases.models import Department


class UnknownDepartment(DomainError):
    """No department of the caller has this code; whether another's has is not said."""

    code = "unknown_department"
    message = _("You are a member of no department with this code.")


def department_named(user: Any, code: str, *, capability: str = "view") -> Department:
    """Return the caller's own department of this code; 403 where the role does not allow."""
    departments = Department.objects.visible_to(user)
    # Postgres keeps no text with a NUL, and refuses to be asked for one.
    department = None if "\x00" in code else departments.filter(code=code).first()
    if department is None:
        raise UnknownDepartment
    permissions.require(user, capability, department.pk)
    return department


@extend_schema_field(OpenApiTypes.STR)
class DepartmentCodeField(serializers.CharField):
    """A department by its code: written as one's own department, read as the code."""

    def to_internal_value(self, data: Any) -> Department:
        return department_named(self.context["request"].user, super().to_internal_value(data))

    def to_representation(self, value: Department) -> str:
        return value.code
