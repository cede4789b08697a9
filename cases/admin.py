"""The administration of departments, people, tokens and, to look at, clinical rows."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from cases import (
    admin_dicom,  # noqa: F401  (registers)
    admin_exports,  # noqa: F401  (registers)
    admin_sign_on,  # noqa: F401  (registers)
    models,
    permissions,
)
from cases.admin_access import (
    AuditedChanges,
    ClinicalAdmin,
    ClinicalInline,
    RoleAdmin,
    administered,
)
from cases.errors import DomainError
from cases.permissions import Role
from cases.services.tokens import token_create, token_revoke, token_rotate

User = get_user_model()
admin.site.unregister([Group, User])


def is_site_admin(request: HttpRequest) -> bool:
    """Return whether the user runs the site."""
    return permissions.is_system_administrator(request.user)


@admin.register(models.Department)
class DepartmentAdmin(AuditedChanges, RoleAdmin):
    """Made by the site's administrators; a department's own may change its details."""

    list_display = ["name", "code", "mrn_issuer", "accession_issuer", "retention_years"]
    search_fields = ["name", "code"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request)
        return rows if is_site_admin(request) else rows.filter(pk__in=administered(request))

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        # The issuers tell patients and cases apart and the API names the code.
        # How long cases are kept is not decided by who proposes what is deleted.
        own = ["code", "mrn_issuer", "accession_issuer", "retention_years"]
        return [] if is_site_admin(request) else own

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_site_admin(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_site_admin(request) or obj is None or obj.pk in administered(request)


class MembershipAccess:
    """Mixin: who gives which roles. A department's administrator gives none of the site."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request).select_related("user", "department")
        return rows if is_site_admin(request) else rows.filter(department__in=administered(request))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if not is_site_admin(request):
            if db_field.name == "department":
                kwargs["queryset"] = models.Department.objects.filter(pk__in=administered(request))
                kwargs["required"] = True
            if db_field.name == "user":
                kwargs["queryset"] = _users_of(request)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "role" and not is_site_admin(request):
            kwargs["choices"] = [
                choice for choice in Role.choices if choice[0] != Role.SYSTEM_ADMINISTRATOR
            ]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)


@admin.register(models.Membership)
class MembershipAdmin(MembershipAccess, AuditedChanges, RoleAdmin):
    """Who is what in which department."""

    list_display = ["user", "role", "department", "created_at"]
    list_filter = [("department", admin.RelatedOnlyFieldListFilter), "role"]
    search_fields = ["user__username", "user__last_name"]


class MembershipInline(MembershipAccess, admin.TabularInline):
    model = models.Membership
    extra = 0

    def get_formset(self, request: HttpRequest, obj: Model | None = None, **kwargs: Any) -> Any:
        # Who makes an account for the department says what it may do there.
        if obj is None and not is_site_admin(request):
            kwargs.update(min_num=1, validate_min=True)
        return super().get_formset(request, obj, **kwargs)


@admin.register(User)
class PortalUserAdmin(AuditedChanges, UserAdmin):
    """Accounts. A department's administrator changes those that are in no other department."""

    inlines = [MembershipInline]
    list_display = ["username", "last_name", "first_name", "is_active", "last_login"]
    list_filter = ["is_active"]
    filter_horizontal = []
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
        ("Account", {"fields": ["is_active", "is_superuser", "last_login", "date_joined"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request)
        return rows if is_site_admin(request) else rows.filter(pk__in=_users_of(request))

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        fixed = ["last_login", "date_joined"]
        return fixed if request.user.is_superuser else [*fixed, "is_superuser"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return permissions.may_administer(request.user)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.may_administer(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if obj is None or request.user.is_superuser:
            return permissions.may_administer(request.user)
        # Who sets an account's password could act with its rights.
        if obj.is_superuser:
            return False
        return is_site_admin(request) or _is_only_in(obj, administered(request))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False  # made inactive: the audit names accounts

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        for action, rows in (
            ("create", formset.new_objects),
            ("change", [obj for obj, _fields in formset.changed_objects]),
            ("delete", formset.deleted_objects),
        ):
            for row in rows:
                self.audit(request, action, row)


class ApiTokenForm(forms.ModelForm):
    """A new token; its key is shown once after saving."""

    scopes = forms.MultipleChoiceField(
        choices=models.ApiToken.Scope.choices, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = models.ApiToken
        fields = ["user", "name", "scopes", "departments", "addresses", "expires_at"]


@admin.register(models.ApiToken)
class ApiTokenAdmin(RoleAdmin):
    """Keys of machines: made, shown once, revoked; never changed."""

    form = ApiTokenForm
    list_display = ["name", "prefix", "user", "created_at", "expires_at", "last_used_at", "revoked"]
    actions = ["rotate", "revoke"]
    readonly_shown = [*ApiTokenForm.Meta.fields[:2], "prefix", *ApiTokenForm.Meta.fields[2:]]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request).select_related("user")
        if is_site_admin(request):
            return rows
        own = administered(request)
        others = models.Department.objects.exclude(pk__in=own)
        beyond = models.ApiToken.objects.filter(departments__in=others).values("pk")
        return rows.filter(departments__in=own).exclude(pk__in=beyond).distinct()

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        if obj is None:
            return self.form.Meta.fields
        used = ["created_at", "last_used_at", "last_used_from", "replaces", "revoked_at"]
        return [*self.readonly_shown, *used]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user" and not is_site_admin(request):
            kwargs["queryset"] = _users_of(request)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "departments" and not is_site_admin(request):
            kwargs["queryset"] = models.Department.objects.filter(pk__in=administered(request))
            kwargs["required"] = True
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        token, key = token_create(
            user=obj.user,
            name=obj.name,
            scopes=form.cleaned_data["scopes"],
            departments=form.cleaned_data["departments"],
            addresses=obj.addresses,
            expires_at=obj.expires_at,
            created_by=request.user,
        )
        # The form goes on with the row that the service made.
        obj.__dict__.update(token.__dict__)
        messages.warning(request, f"The key, shown only now: {key}")

    @admin.action(description="Rotate: a new key now, the old one ends in a day")
    def rotate(self, request: HttpRequest, queryset: QuerySet) -> None:
        for token in queryset:
            try:
                made, key = token_rotate(token=token, user=request.user)
            except DomainError as error:
                messages.error(request, f"{token}: {error.message}")
            else:
                messages.warning(request, f"{made}: the key, shown only now: {key}")

    @admin.action(description="Revoke the chosen tokens")
    def revoke(self, request: HttpRequest, queryset: QuerySet) -> None:
        for token in queryset:
            token_revoke(token=token, user=request.user)
        messages.success(request, "The chosen tokens no longer open anything.")

    @admin.display(boolean=True)
    def revoked(self, token: models.ApiToken) -> bool:
        return token.revoked_at is not None

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.may_administer(request.user)


@admin.register(models.AccessEvent)
class AccessEventAdmin(RoleAdmin):
    """The audit, to read: a department's own events, or all of the site (ids, no names)."""

    list_display = [
        "at",
        "user",
        "action",
        "outcome",
        "channel",
        "object_type",
        "object_id",
        "address",
    ]
    list_filter = ["action", "outcome", "channel", "at"]
    search_fields = ["object_id", "patient_id", "user__username", "request_id"]
    date_hierarchy = "at"
    list_select_related = ["user"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request)
        return (
            rows if is_site_admin(request) else rows.filter(department_id__in=administered(request))
        )

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.may_administer(request.user)


@admin.register(models.Patient)
class PatientAdmin(ClinicalAdmin):
    list_display = ["mrn", "mrn_issuer", "family_name", "given_name", "birth_date", "department"]
    search_fields = ["mrn", "family_name", "given_name"]

    def patient_of(self, obj: models.Patient) -> models.Patient:
        return obj


@admin.register(models.Case)
class CaseAdmin(ClinicalAdmin):
    list_display = ["accession_number", "accession_issuer", "patient", "received_on", "department"]
    list_select_related = ["patient", "department"]
    search_fields = ["accession_number"]

    def patient_of(self, obj: models.Case) -> models.Patient:
        return obj.patient


@admin.register(models.Slide, models.Report)
class CasePartAdmin(ClinicalAdmin):
    list_display = ["__str__", "case", "created_at"]
    list_select_related = ["case__patient"]
    search_fields = ["case__accession_number"]

    def patient_of(self, obj: Any) -> models.Patient:
        return obj.case.patient


class BlockInline(ClinicalInline):
    model = models.Block
    fields = ["label", "description"]


@admin.register(models.Specimen)
class SpecimenAdmin(CasePartAdmin):
    inlines = [BlockInline]


class SlideInstanceInline(ClinicalInline):
    model = models.SlideInstance
    fields = ["sop_instance_uid", "flavor", "total_columns", "total_rows", "frame_count"]


@admin.register(models.SlideImage)
class SlideImageAdmin(ClinicalAdmin):
    list_display = ["id", "slide", "source_format", "width_l0", "height_l0", "mpp", "created_at"]
    list_select_related = ["slide__case__patient"]
    search_fields = ["id", "series_instance_uid", "slide__case__accession_number"]
    inlines = [SlideInstanceInline]

    def patient_of(self, obj: models.SlideImage) -> models.Patient:
        return obj.slide.case.patient


class CohortEntryInline(ClinicalInline):
    model = models.CohortEntry
    fields = ["slide_image", "added_by", "removed_at", "removed_reason"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = models.CohortEntry.objects.visible_to(request.user)
        return rows.select_related("slide_image__slide", "added_by")


@admin.register(models.Cohort)
class CohortAdmin(ClinicalAdmin):
    inlines = [CohortEntryInline]
    exclude = ["shared_with"]  # a partner need not know of the other partners
    list_display = ["name", "department", "created_by", "created_at"]
    search_fields = ["name"]


class UploadItemInline(ClinicalInline):
    model = models.UploadItem
    fields = ["name", "state", "reason_code", "reason", "slide_image"]


@admin.register(models.SlideUpload)
class SlideUploadAdmin(ClinicalAdmin):
    inlines = [UploadItemInline]
    list_display = ["id", "state", "source", "department", "uploaded_by", "created_at"]
    list_filter = ["state", "source"]


def _users_of(request: HttpRequest) -> QuerySet:
    """Return the members of the departments that the user administers."""
    members = models.Membership.objects.filter(department__in=administered(request))
    return User.objects.filter(pk__in=members.values("user"))


def _is_only_in(user: Any, departments: frozenset[int]) -> bool:
    places = set(user.memberships.values_list("department_id", flat=True))
    return bool(places) and places <= departments
