"""Row security of Postgres: the second lock on every table with patient data.

`visible_to` is the first. The policies here are coarser (a department, and what a cohort shared
with it opens), so that they never hide what `visible_to` shows; a query that forgot `visible_to`
still gets nothing of another department. What a connection may see is said by
`cases.row_scope`; where nothing was said, nothing is seen. The policies hold for the owner of
the tables, too (FORCE), and stand in one table here, applied after each `migrate`, so that a test
can tell which table lacks one.
"""

import hashlib
import logging
from collections.abc import Mapping

from django.db.backends.base.base import BaseDatabaseWrapper

from cases.row_scope import APP_ROLE

log = logging.getLogger(__name__)

SYSTEM = "(SELECT pathsearch_system())"
DEPARTMENTS = "(SELECT pathsearch_departments())::bigint[]"
IN_DEPARTMENT = f"department_id = ANY ({DEPARTMENTS})"
USER = "(SELECT pathsearch_user())"
AUDITED = "(SELECT pathsearch_audited())::bigint[]"


def opened(kind: str, column: str) -> str:
    """Return the condition that the column names one of what was opened by sharing."""
    return f"{column} IN (SELECT pathsearch_opened_{kind}())"


def exists(table: str, column: str, key: str = "id") -> str:
    """Return the condition that the row it belongs to is seen: that one's policy is asked."""
    # OFFSET keeps Postgres from reading the whole parent table into a hash for a page of rows.
    return f"EXISTS (SELECT 1 FROM {table} AS parent WHERE parent.{key} = {column} OFFSET 0)"


OF_IMAGE = f"{IN_DEPARTMENT} OR {opened('images', 'slide_image_id')}"
OF_CASE = exists("cases_case", "case_id")

# Table: who may see, and write, a row of it. All add "or the site itself".
POLICIES: dict[str, str] = {
    "cases_patient": f"{IN_DEPARTMENT} OR {opened('patients', 'id')}",
    "cases_case": f"{IN_DEPARTMENT} OR {opened('cases', 'id')}",
    "cases_clinicalchange": IN_DEPARTMENT,
    "cases_specimen": OF_CASE,
    "cases_block": exists("cases_specimen", "specimen_id"),
    "cases_slide": OF_CASE,
    "cases_report": OF_CASE,
    "cases_slideimage": f"{IN_DEPARTMENT} OR {opened('images', 'id')}",
    "cases_slideinstance": OF_IMAGE,
    "cases_slideinstanceindex": exists("cases_slideinstance", "instance_id"),
    "cases_slideinstanceheader": exists("cases_slideinstance", "instance_id"),
    "cases_derivedinstance": OF_IMAGE,
    "cases_slideregion": OF_IMAGE,
    "cases_cohort": (
        f"{IN_DEPARTMENT} OR id IN (SELECT cohort_id FROM cases_cohort_shared_with"
        f" WHERE {IN_DEPARTMENT})"
    ),
    "cases_cohortentry": exists("cases_cohort", "cohort_id"),
    "cases_boardmeeting": IN_DEPARTMENT,
    "cases_boarditem": exists("cases_boardmeeting", "meeting_id"),
    # One's own, and those that one reviews. The openings themselves come by a function.
    "cases_emergencyaccess": f"user_id = {USER} OR department_id = ANY ({AUDITED})",
    "cases_consult": (
        f"{IN_DEPARTMENT} OR to_user_id = {USER} OR to_department_id = ANY ({DEPARTMENTS})"
    ),
    "cases_consultopinion": exists("cases_consult", "consult_id"),
    "cases_patientmerge": IN_DEPARTMENT,
    "cases_mergedcase": exists("cases_patientmerge", "merge_id"),
    "cases_legalhold": IN_DEPARTMENT,
    "cases_casedeletion": IN_DEPARTMENT,
    "cases_slideupload": IN_DEPARTMENT,
    "cases_uploadfile": exists("cases_slideupload", "upload_id"),
    "cases_uploaditem": IN_DEPARTMENT,
    "cases_storagecommitment": (
        f"EXISTS (SELECT 1 FROM cases_dicompeer WHERE id = peer_id AND {IN_DEPARTMENT})"
    ),
    "cases_exportproject": IN_DEPARTMENT,
    "cases_export": IN_DEPARTMENT,
    "cases_exportitem": exists("cases_export", "export_id"),
    "cases_savedview": f"user_id = {USER}",
    # Everybody's acts are written down; they are read by who audits the department, and each
    # one's own by themselves. What was refused may belong to no department.
    "cases_accessevent": (
        f"department_id = ANY ({AUDITED}) OR user_id = {USER}"
        f" OR (department_id IS NULL AND outcome <> 'done' AND cardinality({AUDITED}) > 0)"
    ),
}
# No update and no delete of these, for anybody but the owner.
APPEND_ONLY = (
    "cases_accessevent",
    "cases_clinicalchange",
    "cases_auditseal",
    "cases_auditretirement",
)
# Clinical rows: corrected, superseded and merged by the application, and never deleted by it.
NEVER_DELETED = (
    "cases_patient", "cases_case", "cases_specimen", "cases_block", "cases_slide", "cases_report",
    "cases_slideimage", "cases_slideinstance", "cases_patientmerge", "cases_mergedcase",
    "cases_emergencyaccess", "cases_consult", "cases_consultopinion", "cases_legalhold",
    "cases_casedeletion",
)  # fmt: skip
# Of the append-only ones: what goes with a case whose time of keeping is over (the owner alone,
# for the site; a trigger asks for the approval, too).
ERASED_WITH_CASE = ("cases_clinicalchange",)
# Tables with a department and no policy, each with the reason.
WITHOUT_POLICY: dict[str, str] = {
    "cases_membership": "who belongs where; read before it is known for whom",
    "cases_apitoken_departments": "narrows a token; read before it is known for whom",
    "cases_cohort_shared_with": "which cohort is shared with whom; read by the policies",
    "cases_dicompeer": "a device's address, no patient",
}

_FUNCTIONS = """
CREATE OR REPLACE FUNCTION pathsearch_system() RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT coalesce(current_setting('pathsearch.system', true), '') = 'on' $$;
CREATE OR REPLACE FUNCTION pathsearch_departments() RETURNS bigint[]
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(current_setting('pathsearch.departments', true), ''), '{}')::bigint[] $$;
CREATE OR REPLACE FUNCTION pathsearch_audited() RETURNS bigint[]
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(current_setting('pathsearch.audited', true), ''), '{}')::bigint[] $$;
CREATE OR REPLACE FUNCTION pathsearch_user() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('pathsearch.user_id', true), '')::bigint $$;
CREATE OR REPLACE FUNCTION pathsearch_cases() RETURNS uuid[]
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(current_setting('pathsearch.cases', true), ''), '{}')::uuid[] $$;
"""

# What sharing opens, by the kind of id. An entry opens a slide of its cohort's own department
# alone, or sharing could be passed on. Values that are looked up are variables or arrays: a call
# inside of a condition would keep Postgres from its indexes, and have it read whole tables.
_OPENED = {
    "images": """
    SELECT entry.slide_image_id FROM cases_cohortentry AS entry
    JOIN cases_cohort AS cohort ON cohort.id = entry.cohort_id
    JOIN cases_cohort_shared_with AS shared ON shared.cohort_id = cohort.id
    JOIN cases_slideimage AS image ON image.id = entry.slide_image_id
    WHERE entry.removed_at IS NULL AND shared.department_id = ANY (own_departments)
      AND image.department_id = cohort.department_id
    UNION
    SELECT image.id FROM cases_slideimage AS image
    JOIN cases_slide AS slide ON slide.id = image.slide_id
    WHERE slide.case_id = ANY (own_cases)""",
    "cases": """
    SELECT slide.case_id FROM cases_slideimage AS image
    JOIN cases_slide AS slide ON slide.id = image.slide_id
    WHERE image.id = ANY (ARRAY(SELECT pathsearch_opened_images()))
    UNION SELECT unnest(own_cases)""",
    "patients": """
    SELECT patient_id FROM cases_case WHERE id = ANY (ARRAY(SELECT pathsearch_opened_cases()))""",
    "reports": """
    SELECT id FROM cases_report WHERE case_id = ANY (ARRAY(SELECT pathsearch_opened_cases()))""",
}


def _opening_function(kind: str, query: str) -> str:
    """Return the function of what sharing opens, as SQL.

    It reads past the policies (or policies would ask each other in a circle), and tells no more
    than ids that are opened to the departments and cases of this connection. (A SET clause would
    do it in less words, but no one except a superuser may write it for a setting of our own.)
    """
    return f"""
CREATE OR REPLACE FUNCTION pathsearch_opened_{kind}() RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE ROWS 100 AS $$
DECLARE
    before text := coalesce(current_setting('pathsearch.system', true), '');
    own_departments bigint[] := pathsearch_departments();
    own_cases uuid[] := pathsearch_cases();
BEGIN
    PERFORM set_config('pathsearch.system', 'on', true);
    RETURN QUERY{query};
    PERFORM set_config('pathsearch.system', before, true);
END $$;
"""


# Which cases are open to somebody: asked before anything is known of what they may see.
_OPENINGS = """
CREATE OR REPLACE FUNCTION pathsearch_openings(who bigint, whose bigint[])
    RETURNS TABLE (kind text, pk uuid, case_id uuid, patient_id uuid, department_id bigint,
                   until timestamptz)
    LANGUAGE plpgsql STABLE ROWS 5 AS $$
#variable_conflict use_column
DECLARE
    before text := coalesce(current_setting('pathsearch.system', true), '');
BEGIN
    PERFORM set_config('pathsearch.system', 'on', true);
    RETURN QUERY
    SELECT 'emergency', e.id, c.id, c.patient_id, c.department_id, e.expires_at
    FROM cases_emergencyaccess AS e JOIN cases_case AS c ON c.id = e.case_id
    WHERE e.user_id = who AND e.ended_at IS NULL AND e.expires_at > now()
    UNION ALL
    SELECT 'emergency', e.id, c.id, c.patient_id, c.department_id, e.expires_at
    FROM cases_emergencyaccess AS e
    JOIN cases_case AS c ON c.patient_id = e.patient_id AND c.department_id = e.department_id
    WHERE e.case_id IS NULL AND e.user_id = who AND e.ended_at IS NULL AND e.expires_at > now()
    UNION ALL
    SELECT 'consult', k.id, c.id, c.patient_id, c.department_id, k.until
    FROM cases_consult AS k JOIN cases_case AS c ON c.id = k.case_id
    WHERE (k.to_user_id = who OR k.to_department_id = ANY (whose))
      AND k.ended_at IS NULL AND k.until > now();
    PERFORM set_config('pathsearch.system', before, true);
END $$;
"""


# The operators of the search fields. Postgres asks an index for them before a policy only where
# they are marked so; they answer no more than their own result. Only a superuser may mark them.
LEAKPROOF = (
    "ts_match_vq(tsvector, tsquery)",
    "ts_match_qv(tsquery, tsvector)",
    "arrayoverlap(anyarray, anyarray)",
    "arraycontains(anyarray, anyarray)",
    "arraycontained(anyarray, anyarray)",
    "textlike(text, text)",
    "texticlike(text, text)",
    "upper(text)",
    "lower(text)",
    "similarity_op(text, text)",
    "word_similarity_op(text, text)",
    "word_similarity_commutator_op(text, text)",
    "strict_word_similarity_op(text, text)",
    "strict_word_similarity_commutator_op(text, text)",
    "jsonb_extract_path_text(jsonb, text[])",
)
_STAMP = "COMMENT ON FUNCTION pathsearch_system() IS '{}'"


def policies_declare(policies: Mapping[str, str], *, without: Mapping[str, str]) -> None:
    """Add the tables of another app: its policies, and the reasons of those without one."""
    POLICIES.update(policies)
    WITHOUT_POLICY.update(without)


def install(connection: BaseDatabaseWrapper) -> bool:
    """Bring role, grants and policies up to what is declared; return whether anything was done.

    Run as the owner of the tables. Tables that are not there (yet) are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class"
            " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition"
        )
        tables: dict[str, bool] = dict(cursor.fetchall())
        cursor.execute(
            "SELECT obj_description(to_regprocedure('pathsearch_system()'), 'pg_proc'),"
            " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        )
        stamp, is_superuser = cursor.fetchone()
        if "cases_cohort_shared_with" not in tables or "cases_accessevent" not in tables:
            return False
        wanted = {table: rule for table, rule in POLICIES.items() if table in tables}
        script = _script(wanted, sorted(tables))
        digest = hashlib.sha256(f"{script}{is_superuser}".encode()).hexdigest()[:32]
        if stamp == digest and all(tables[table] for table in wanted):
            return False
        cursor.execute(script)
        if is_superuser:
            for function in LEAKPROOF:
                cursor.execute("SELECT to_regprocedure(%s) IS NOT NULL", [function])
                if cursor.fetchone()[0]:
                    cursor.execute(f"ALTER FUNCTION {function} LEAKPROOF")
        cursor.execute(_STAMP.format(digest))
    return True


def _script(policies: Mapping[str, str], tables: list[str]) -> str:
    parts = [
        _FUNCTIONS,
        _OPENINGS,
        *(_opening_function(kind, query) for kind, query in _OPENED.items()),
    ]
    for table, rule in policies.items():
        whole = f"{SYSTEM} OR {rule}"
        parts.append(
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY;"
            f"DROP POLICY IF EXISTS pathsearch ON {table};"
            f"DROP POLICY IF EXISTS pathsearch_insert ON {table};"
            f"DROP POLICY IF EXISTS pathsearch_erase ON {table};"
        )
        if table in APPEND_ONLY:
            parts.append(
                f"CREATE POLICY pathsearch ON {table} FOR SELECT USING ({whole});"
                f"CREATE POLICY pathsearch_insert ON {table} FOR INSERT WITH CHECK (true);"
            )
        else:
            parts.append(f"CREATE POLICY pathsearch ON {table} USING ({whole});")
        if table in ERASED_WITH_CASE:
            parts.append(f"CREATE POLICY pathsearch_erase ON {table} FOR DELETE USING ({SYSTEM});")
    parts.append(
        "DO $$ BEGIN "
        f"IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN "
        f"CREATE ROLE {APP_ROLE}; END IF; "
        f"IF NOT pg_has_role(session_user, '{APP_ROLE}', 'SET') THEN "
        f"EXECUTE format('GRANT {APP_ROLE} TO %I', session_user); END IF; END $$;"
        f"GRANT USAGE ON SCHEMA public TO {APP_ROLE};"
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE};"
    )
    for table in tables:
        rights = "SELECT, INSERT, UPDATE, DELETE"
        if table in APPEND_ONLY:
            rights = "SELECT, INSERT"
        elif table in NEVER_DELETED:
            rights = "SELECT, INSERT, UPDATE"
        elif table == "django_migrations":
            rights = "SELECT"
        parts.append(
            f'REVOKE ALL ON "{table}" FROM {APP_ROLE}; GRANT {rights} ON "{table}" TO {APP_ROLE};'
        )
    return "\n".join(parts)
