"""What the docs say of roles, links and commands is what the code does."""

import re
from pathlib import Path

import pytest

from cases.permissions import CAPABILITIES, Role

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

ROWS = {
    "see the department's cases, slides, reports": ["view"],
    "see who the patients are: names, numbers, dates": ["view_identity"],
    "see label images": ["view_label"],
    "search": ["search"],
    "say relevant / not relevant": ["give_feedback"],
    "upload, match the unmatched, retry work": ["upload", "reconcile", "retry_work"],
    "write cases by API": ["edit_case"],
    "write reports by API": ["write_report"],
    "prepare and show tumour boards": ["tumour_board"],
    "make and fill cohorts, export them": ["curate_cohort", "export_cohort"],
    "share a cohort with another department": ["share_cohort"],
    "export slides de-identified": ["export_deidentified"],
    "open and close export projects": ["manage_export_projects"],
    "manage members and tokens of the department": ["manage_members", "manage_tokens"],
    "draw regions and measurements on slides": ["draw_region"],
    "read the history of a case": ["read_history"],
    "merge patients who are one, and undo it": ["merge_patients"],
    "decide what is deleted when its time is over, place legal holds": ["retire_cases"],
    "open a case of another department in an emergency": ["break_glass"],
    "review emergency accesses to the department's cases": ["review_emergency"],
    "ask a colleague or department for a consult": ["ask_consult"],
    "read the access log": ["read_audit"],
}
COLUMNS = [
    Role.PATHOLOGIST,
    Role.TECHNICIAN,
    Role.RESEARCHER,
    Role.DEPARTMENT_ADMINISTRATOR,
    Role.AUDITOR,
]


def test_the_table_of_roles_is_the_one_in_code():
    page = (ROOT / "docs" / "administrator.md").read_text(encoding="utf-8")
    assert {name for names in ROWS.values() for name in names} == set(CAPABILITIES)
    for row, capabilities in ROWS.items():
        line = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", page, flags=re.MULTILINE)
        assert line, row
        cells = [cell.strip() == "yes" for cell in line.group(1).split("|")]
        for capability in capabilities:
            assert cells[:5] == [role in CAPABILITIES[capability] for role in COLUMNS], row
        assert cells[5] is False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_file_named_in_the_docs_is_there(page):
    text = page.read_text(encoding="utf-8")
    django = {"migrate", "collectstatic", "createsuperuser", "check", "shell", "qcluster"}
    own = {file.stem for file in ROOT.glob("*/management/commands/*.py")}
    for command in re.findall(r"manage\.py ([a-z_]+)", text):
        assert command in django | own, command
    rooms = "cases|retrieval|pathsearch_site|tests|docs|benchmarks"
    for name in re.findall(rf"`((?:{rooms})/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert target in targets, target
