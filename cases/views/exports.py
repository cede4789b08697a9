"""De-identified exports: asking for one, following it, fetching it; and the projects behind."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cases import permissions
from cases.errors import DomainError
from cases.file_response import DiskResponse
from cases.models import Cohort, Department, Export, ExportItem, ExportProject, SlideImage
from cases.services import export_projects, exports

PAGE_SIZE = 25
ITEMS_SHOWN = 200


class ExportForm(forms.Form):
    """For which project, and what beside the pictures."""

    project = forms.ModelChoiceField(
        ExportProject.objects.none(),
        label=gettext_lazy("Project"),
        empty_label=None,
        help_text=gettext_lazy("Pseudonyms are the same within a project, and only there."),
    )
    with_diagnoses = forms.BooleanField(
        label=gettext_lazy("Add the coded diagnoses of signed reports to the manifest"),
        required=False,
    )

    def __init__(self, *args: Any, user: Any, department_id: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = exports.open_projects(user, department_id)


class ProjectForm(forms.Form):
    """A new project."""

    department = forms.ModelChoiceField(
        Department.objects.none(), label=gettext_lazy("Department"), empty_label=None
    )
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    purpose = forms.CharField(
        label=gettext_lazy("What it is for"),
        required=False,
        max_length=400,
        help_text=gettext_lazy("Protocol, ethics vote, who receives it. It is not exported."),
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = permissions.departments_with(user, "manage_export_projects")
        self.fields["department"].queryset = Department.objects.filter(pk__in=own)


@login_required
@require_safe
def export_list(request: HttpRequest) -> HttpResponse:
    """List the exports and the projects of the user's departments."""
    rows = Export.objects.visible_to(request.user).select_related(
        "project", "requested_by", "department", "cohort"
    )
    may_open = permissions.departments_with(request.user, "manage_export_projects")
    context = {
        "page_obj": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "projects": ExportProject.objects.visible_to(request.user).select_related("department"),
        "may_manage_of": may_open,
        "project_form": ProjectForm(user=request.user, label_suffix="") if may_open else None,
    }
    return render(request, "cases/exports.html", context)


@login_required
@require_safe
def export(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show an export; asked by htmx, only the part that changes while it is made."""
    rows = Export.objects.select_related("project", "requested_by", "department", "cohort")
    row = rows.get_visible_or_404(request.user, pk=pk)
    items = ExportItem.objects.visible_to(request.user).filter(
        export=row, slide_image__in=SlideImage.objects.visible_to(request.user)
    )
    context = {
        "export": row,
        "is_working": row.state in {Export.State.QUEUED, Export.State.RUNNING},
        "may_export": permissions.may(request.user, "export_deidentified", row.department_id),
        "left_out": items.filter(state=ExportItem.State.LEFT_OUT).select_related(
            "slide_image__slide__case"
        )[:ITEMS_SHOWN],
    }
    template = "cases/export_status.html" if request.htmx else "cases/export.html"
    return render(request, template, context)


@login_required
@require_http_methods(["GET", "POST"])
def slide_export(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask for the export of one slide."""
    image = SlideImage.objects.select_related("slide__case").get_visible_or_404(request.user, pk=pk)
    permissions.require(request.user, "export_deidentified", image.department_id)

    def act(**options: Any) -> Export:
        return exports.export_request(user=request.user, slide_images=[image], **options)

    context = {"slide_image": image, "count": 1}
    return _ask(request, image.department_id, act, context)


@login_required
@require_http_methods(["GET", "POST"])
def cohort_export_dicom(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask for the export of a cohort's slides."""
    found = Cohort.objects.all().get_visible_or_404(request.user, pk=pk)
    permissions.require(request.user, "export_deidentified", found.department_id)

    def act(**options: Any) -> Export:
        return exports.export_request_cohort(user=request.user, cohort=found, **options)

    count = exports.cohort_images(request.user, found).count()
    return _ask(request, found.department_id, act, {"cohort": found, "count": count})


def _ask(
    request: HttpRequest, department_id: int, act: Any, context: dict[str, Any]
) -> HttpResponse:
    form = ExportForm(
        request.POST or None, user=request.user, department_id=department_id, label_suffix=""
    )
    if request.method == "POST" and form.is_valid():
        try:
            made = act(**form.cleaned_data)
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, _("The export is being made. You can leave this page."))
            return redirect("export", pk=made.pk)
    may_open = permissions.may(request.user, "manage_export_projects", department_id)
    return render(request, "cases/export_new.html", {"form": form, "may_open": may_open, **context})


@login_required
@require_safe
def export_download(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the archive, after asking again whether this user may have all of it."""
    row = Export.objects.all().get_visible_or_404(request.user, pk=pk)
    return DiskResponse(
        exports.export_fetch(user=request.user, export=row),
        filename=f"export-{row.pk}.zip",
        content_type="application/zip",
        headers={"Cache-Control": "no-store"},
    )


@login_required
@require_POST
def export_retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Make a failed or expired export again."""
    row = Export.objects.all().get_visible_or_404(request.user, pk=pk)
    return _acted(request, row, exports.export_retry, _("The export is made again."))


@login_required
@require_POST
def export_remove(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take the archive away before its time."""
    row = Export.objects.all().get_visible_or_404(request.user, pk=pk)
    return _acted(request, row, exports.export_remove, _("The file is removed."))


def _acted(request: HttpRequest, row: Export, act: Any, done: str) -> HttpResponse:
    try:
        act(export=row, user=request.user)
        messages.success(request, done)
    except DomainError as error:
        messages.error(request, error.message)
    return redirect("export", pk=row.pk)


@login_required
@require_POST
def export_project_new(request: HttpRequest) -> HttpResponse:
    """Open a project; its key is made here and shown nowhere."""
    form = ProjectForm(request.POST, user=request.user)
    if not permissions.departments_with(request.user, "manage_export_projects"):
        permissions.require(request.user, "manage_export_projects", 0)
    if not form.is_valid():
        messages.error(request, _("Give the project a name, and one of your departments."))
        return redirect("exports")
    try:
        export_projects.export_project_open(user=request.user, **form.cleaned_data)
        messages.success(request, _("The project is open. Its key is made and kept here."))
    except DomainError as error:
        messages.error(request, error.message)
    return redirect("exports")


@login_required
@require_POST
def export_project_close(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Close a project: nothing more is exported under its key."""
    project = ExportProject.objects.all().get_visible_or_404(request.user, pk=pk)
    export_projects.export_project_close(user=request.user, project=project)
    messages.success(request, _("The project is closed."))
    return redirect("exports")
