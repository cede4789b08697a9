"""How long the work list takes to answer in a large archive.

    python -m benchmarks.work_list --cases 100000

In a scratch database (made beside the site's own, dropped at the end): that many cases, ten in
eleven of the reader's department, each with a specimen, a slide, a scan and mostly a report. Each
page is asked for as a browser does, through the whole of Django and with its access events; the
times are those of the server. No picture is fetched.
"""

import argparse
import os
import platform
import time

import numpy as np

from benchmarks.scratch import scratch_database

PAGES = {
    "first page": {},
    "search: accession number": {"text": "S26-054321"},
    "search: part of a name": {"text": "quill"},
    "search: family and given name": {"text": "Tanquill Berit"},
    "search: MRN": {"text": "MRN0077123"},
    "search: name with a typing error": {"text": "Tanqiull"},
    "search: accession with a typing error": {"text": "S26-O54321"},
    "search: nothing like it": {"text": "Zzyxqqwv"},
    "filter: organ": {"organ": "Lung"},
    "filter: stain": {"stain": "PAS"},
    "filter: no report": {"report_status": "none"},
    "filter: indexed": {"index_state": "indexed"},
    "filter: failed to index": {"index_state": "failed"},
    "filter: organ and dates": {
        "organ": "Colon",
        "received_from": "2025-03-01",
        "received_to": "2025-03-31",
    },
    "page 40": {"page": 40},
    "order: patient": {"order": "patient"},
    "order: diagnosis": {"order": "diagnosis"},
}

_FILL = """
INSERT INTO cases_patient (id, created_at, updated_at, department_id, mrn, mrn_issuer,
                           family_name, given_name, sex)
SELECT gen_random_uuid(), now(), now(), CASE WHEN n %% 11 = 0 THEN %(away)s ELSE %(home)s END,
       'MRN' || lpad(n::text, 7, '0'), 'b',
       (ARRAY['Tan','Bo','Kar','Mel','Or','Sil','Vand','Ruz','Hex','Ly'])[1 + n %% 10]
       || (ARRAY['quill','berg','lund','wick','mann','feld','ova','etti','dottir','ski',
                 'vara','zhou','meyer'])[1 + (n / 10) %% 13],
       (ARRAY['Berit','Jon','Amal','Chidi','Wei','Rosa','Ivan'])[1 + (n / 7) %% 7],
       ''
FROM generate_series(1, %(cases)s) n;
INSERT INTO cases_case (id, created_at, updated_at, department_id, patient_id, accession_number,
                        accession_issuer, received_on, clinical_history)
SELECT gen_random_uuid(), now(), now(), department_id, id,
       'S26-' || lpad((substr(mrn, 4)::int)::text, 6, '0'), 'b',
       date '2026-06-30' - (substr(mrn, 4)::int * 37 %% 1500), ''
FROM cases_patient;
INSERT INTO cases_specimen (id, created_at, updated_at, case_id, label, organ, procedure,
                            description)
SELECT gen_random_uuid(), now(), now(), id, 'A',
       (ARRAY['Lung','Colon','Skin','Breast','Liver'])[1 + substr(accession_number, 5)::int %% 5],
       '', ''
FROM cases_case;
INSERT INTO cases_slide (id, created_at, updated_at, case_id, specimen_id, label, label_barcode,
                         stain)
SELECT gen_random_uuid(), now(), now(), c.id, s.id, 'A1-1', '',
       CASE WHEN substr(c.accession_number, 5)::int %% 6 = 0 THEN 'PAS' ELSE 'H&E' END
FROM cases_case c JOIN cases_specimen s ON s.case_id = c.id;
INSERT INTO cases_report (id, created_at, updated_at, case_id, version, is_current, status,
                          diagnosis_line, diagnosis_code, diagnosis_system, diagnosis_text,
                          microscopic_description, gross_description, comment)
SELECT gen_random_uuid(), now(), now(), id, 1, true,
       (ARRAY['preliminary','final','amended'])[1 + substr(accession_number, 5)::int %% 3],
       'Diagnosis ' || (substr(accession_number, 5)::int %% 400), '', '', '', '', '', ''
FROM cases_case WHERE substr(accession_number, 5)::int %% 47 <> 0;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    with scratch_database(with_pages=True):
        measure(asked.cases, asked.repeats)


def fill(cases: int):
    """Make the archive, and return the pathologist who reads it."""
    from django.contrib.auth import get_user_model
    from django.db import connection

    from cases.models import Department, Membership
    from cases.permissions import Role

    home, away = (
        Department.objects.create(code=code, name=code, mrn_issuer="b", accession_issuer="b")
        for code in ("home", "away")
    )
    user = get_user_model().objects.create(username="bench")
    Membership.objects.create(user=user, department=home, role=Role.PATHOLOGIST)
    with connection.cursor() as cursor:
        for statement in _FILL.split(";\n"):
            if statement.strip():
                cursor.execute(statement, {"home": home.pk, "away": away.pk, "cases": cases})
    _scan_all()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return user


def _scan_all() -> None:
    """Give each slide one scan, indexed but for one in 500; other columns as Django makes them."""
    from cases.models import SlideImage
    from retrieval.models import EmbeddingModel, SlideIndex

    scan = SlideImage(path="", size_bytes=1, width_l0=1024, height_l0=1024, level_count=1, mpp=0.5)
    given = {"slide_id": "s.id", "department_id": "c.department_id"}
    given["content_sha256"] = "md5(s.id::text) || md5(c.id::text)"
    _insert(scan, given, "cases_slide s JOIN cases_case c ON c.id = s.case_id")
    model = EmbeddingModel.objects.filter(
        is_active=True, modality=EmbeddingModel.Modality.IMAGE
    ).first() or EmbeddingModel.objects.create(
        name="bench", modality=EmbeddingModel.Modality.IMAGE, dimension=8, is_active=True
    )
    index = SlideIndex(model=model, state=SlideIndex.State.INDEXED)
    given = {"slide_image_id": "i.id", "department_id": "i.department_id"}
    number = "row_number() OVER (ORDER BY i.id)"
    given["state"] = f"CASE WHEN {number} % 500 = 0 THEN 'failed' ELSE 'indexed' END"
    given["reason_code"] = f"CASE WHEN {number} % 500 = 0 THEN 'bench' ELSE '' END"
    _insert(index, given, "cases_slideimage i")


def _insert(row, given: dict[str, str], source: str) -> None:
    """Insert one copy of the row for each row of the source; `given` columns come from there."""
    from django.db import connection

    given = {"id": "gen_random_uuid()", "created_at": "now()", "updated_at": "now()", **given}
    columns, values, parameters = [], [], []
    for field in row._meta.concrete_fields:
        columns.append(connection.ops.quote_name(field.column))
        if field.column in given:
            values.append(given[field.column].replace("%", "%%"))
        else:
            values.append("%s")
            value = field.get_db_prep_save(getattr(row, field.attname), connection)
            parameters.append(value)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {row._meta.db_table} ({', '.join(columns)})"
            f" SELECT {', '.join(values)} FROM {source}",
            parameters,
        )


def measure(cases: int, repeats: int) -> None:
    """Ask for each page, print."""
    from django.test import Client
    from django.urls import reverse

    started = time.perf_counter()
    user = fill(cases)
    print(
        f"machine   {platform.machine()}; {os.cpu_count()} cores; {cases} cases, filled in"
        f" {time.perf_counter() - started:.0f} s; {repeats} times each\n"
    )
    client = Client()
    client.force_login(user)
    address = reverse("work_list")
    print(f"{'page':40}{'p50 ms':>9}{'p95 ms':>9}{'rows':>6}{'kB':>7}")
    for name, query in PAGES.items():
        client.get(address, query)
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            answer = client.get(address, query)
            seconds.append(time.perf_counter() - began)
        p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
        rows = len(answer.context["page_obj"].object_list)
        print(f"{name:40}{p50:9.0f}{p95:9.0f}{rows:6}{len(answer.content) / 1000:7.0f}")


if __name__ == "__main__":
    main()
