"""The second lock: with `visible_to` taken away, another department's rows still do not come."""

import importlib

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, models, transaction

from cases import row_scope
from cases.models import AccessEvent, Case, CohortEntry, Patient, Report, SlideImage
from cases.querysets import VisibleQuerySet
from cases.row_security import APPEND_ONLY, NEVER_DELETED, POLICIES, WITHOUT_POLICY, install
from retrieval.models import ReportEmbedding, SearchHit, SearchQuery, SlideEmbedding
from tests.permissions.table import TABLE
from tests.permissions.world import World
from tests.test_permissions import ask, betrayed, world  # noqa: F401

pytestmark = pytest.mark.django_db

# What has no policy, as said in WITHOUT_POLICY: who belongs where, terms, and the like.
_UNLOCKED = {"department", "department_pk", "term", "account", "membership", "token"}


@pytest.fixture
def locked(settings):
    settings.ROW_SECURITY = True
    return settings


@pytest.fixture
def forgetful(monkeypatch):
    """Take `visible_to` away from every queryset."""
    kinds = [VisibleQuerySet]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if "visible_to" in vars(kind):
            monkeypatch.setattr(kind, "visible_to", lambda rows, user: rows.all())


def _shown(
    world: World,  # noqa: F811
    name: str,
) -> list[str]:
    """Return what every route shows of the foreign department to a member of another one."""
    actor = next(actor for actor in world.actors if actor.name == name)
    found = []
    for row in TABLE:
        if row.of in _UNLOCKED or row.public or (actor.by_token and not row.is_api):
            continue
        place = "foreign" if row.of and "foreign" in world.ids[row.of] else ""
        if row.of and not place:
            continue
        answer = ask(world, row, actor, place)
        unlocked = {str(world.ids[kind].get("foreign")) for kind in _UNLOCKED if kind in world.ids}
        texts = {text for text in betrayed(world, actor, answer) - unlocked if len(text) > 4}
        if texts or (place and row.method == "GET" and answer.status == 200):
            found.append(f"{row.key}: {answer.status} {sorted(texts)}")
    return found


@pytest.mark.parametrize("name", ["pathologist", "token"])
def test_without_visible_to_no_route_shows_foreign_rows(world, locked, forgetful, name):  # noqa: F811
    shown = _shown(world, name)
    assert shown == [], "\n".join(shown)


def test_visible_to_is_what_else_keeps_them_out(world, forgetful):  # noqa: F811
    """The test above can fail: without the second lock most routes show foreign rows."""
    shown = " ".join(_shown(world, "pathologist"))
    for route in ("case GET", "work_list", "slide GET", "search_result", "dicomweb"):
        assert route in shown, shown


def test_what_visible_to_shows_is_let_through(world, locked):  # noqa: F811
    """Row by row and for everybody, partners of a shared cohort among them."""
    kinds = [model for model in apps.get_models() if _policy_of(model)]
    for actor in world.actors:
        if actor.user is None or actor.by_token:
            continue
        user = type(actor.user).objects.get(pk=actor.user.pk)
        for model in kinds:
            rows = model._default_manager
            if not isinstance(rows.all(), VisibleQuerySet):
                continue
            with row_scope.acting_for_system("what visible_to says"):
                should = set(rows.visible_to(user).values_list("pk", flat=True))
            with row_scope.acting_for_user(user):
                assert set(rows.visible_to(user).values_list("pk", flat=True)) == should
                assert should <= set(rows.values_list("pk", flat=True))


def test_foreign_rows_are_not_there(world, locked):  # noqa: F811
    user = next(actor.user for actor in world.actors if actor.name == "pathologist")
    own = {world.ids["case"]["private"], world.ids["case"]["shared"]}
    with row_scope.acting_for_user(type(user).objects.get(pk=user.pk)):
        cases = set(Case.objects.values_list("pk", flat=True))
        assert own <= cases
        assert world.ids["case"]["foreign"] not in cases
        foreign = {"slide_image__department__code": "away"}
        for model in (SlideEmbedding, SearchHit):
            assert model.objects.exists()
            assert not model.objects.filter(**foreign).exists()
        assert not Report.objects.filter(case_id=world.ids["case"]["foreign"]).exists()
        assert not ReportEmbedding.objects.filter(department__code="away").exists()
        # Nor can they be changed, or made.
        assert not Case.objects.filter(pk=world.ids["case"]["foreign"]).update(clinical_history="x")
        with pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
            Patient.objects.create(
                department=apps.get_model("cases", "Department").objects.get(code="away"),
                mrn="slipped-in",
                mrn_issuer="x",
            )


def test_nothing_said_is_nothing_seen(world, locked):  # noqa: F811
    with row_scope.restored(row_scope.CLOSED):
        for model in (Patient, Case, SlideImage, Report, CohortEntry, SearchQuery, AccessEvent):
            assert not model._default_manager.exists(), model
    with row_scope.acting_for_system("to see that they are there"):
        for model in (Patient, Case, SlideImage, Report, CohortEntry, SearchQuery, AccessEvent):
            assert model._default_manager.exists(), model


def test_a_rollback_does_not_bring_back_the_scope_before(world, locked):  # noqa: F811
    with row_scope.acting_for_system("before"), transaction.atomic():
        assert Case.objects.exists()
        with row_scope.restored(row_scope.CLOSED):
            with transaction.atomic():
                assert not Case.objects.exists()
                transaction.set_rollback(True)
            assert not Case.objects.exists()
        assert Case.objects.exists()


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_the_applications_role_may_not_touch_the_log(world, locked, table):  # noqa: F811
    key = apps.get_model(table.replace("_", ".", 1))._meta.pk.column
    for statement in (
        f"UPDATE {table} SET {key} = {key}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table}",
    ):
        with (
            pytest.raises(DatabaseError, match="permission denied"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


@pytest.mark.parametrize("table", NEVER_DELETED)
def test_the_application_s_role_deletes_no_clinical_row(world, locked, table):  # noqa: F811
    """Whoever acts, the site itself among them."""
    for scope in (row_scope.SYSTEM, row_scope.said()):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with (
                row_scope.restored(scope),
                pytest.raises(DatabaseError, match="permission denied"),
                transaction.atomic(),
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)


def test_every_clinical_table_whose_history_is_kept_is_never_deleted_from():
    kept = importlib.import_module("cases.migrations.0021_history").KEPT
    assert {f"cases_{name}" for name in kept} <= set(NEVER_DELETED)
    assert set(NEVER_DELETED) <= {model._meta.db_table for model in apps.get_models()}


def test_the_role_in_force_owns_nothing(world, locked):  # noqa: F811
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user::text, rolsuper OR rolbypassrls OR rolcreaterole,"
            " (SELECT count(*) FROM pg_class WHERE relowner = pg_roles.oid)"
            " FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == (row_scope.APP_ROLE, False, 0)


def _policy_of(model: type[models.Model]) -> str:
    return POLICIES.get(model._meta.db_table, "")


def test_every_table_with_patient_data_has_a_policy():
    ours = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in {"cases", "retrieval"}
    ]
    tables = {model._meta.db_table: model for model in ours}
    # Whatever hangs on a row with a policy, or says a department, has patient data.
    clinical = set(POLICIES)
    lacking = set()
    for table, model in tables.items():
        if table in POLICIES or table in WITHOUT_POLICY:
            continue
        fields = model._meta.get_fields()
        points = {
            one.related_model._meta.db_table
            for one in fields
            if one.is_relation and one.concrete and not one.many_to_many
        }
        names = {one.name for one in fields if one.concrete}
        if points & (clinical | {"cases_department"}) or names & {"patient_id", "vector", "mrn"}:
            lacking.add(table)
    assert lacking == set(), "add a policy to row_security, or a reason to WITHOUT_POLICY"
    assert set(POLICIES) | set(WITHOUT_POLICY) <= set(tables), "of tables that are not there"


def test_the_policies_stand_in_the_database_and_are_forced():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid"
            " WHERE relrowsecurity AND relforcerowsecurity AND polname = 'pathsearch'"
        )
        assert {row[0] for row in cursor.fetchall()} == set(POLICIES)
    assert install(connection) is False  # again changes nothing
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # the world's own checks are still to come
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("ALTER TABLE cases_uploaditem NO FORCE ROW LEVEL SECURITY")
    assert install(connection) is True  # what was taken away is put back
