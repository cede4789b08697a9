"""The audit is append-only in the database, and tampering past that shows."""

from datetime import UTC, date, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from cases.models import AccessEvent, AuditRetirement, AuditSeal
from cases.services.audit import Action, access_event_record
from cases.services.audit_chain import audit_verify, months_ensure, months_retire
from tests.factories import UserFactory

# Links are written at commit, so these tests commit.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def events():
    user = UserFactory()
    made = [
        access_event_record(
            user=user, action=Action.VIEW, address="10.0.0.7", detail={"note": f'Größe {n} "x"'}
        )
        for n in range(4)
    ]
    with transaction.atomic():
        made += [access_event_record(user=None, action=Action.LOGIN_FAILED) for _ in range(2)]
    return made


def tamper(sql: str, *values) -> None:
    """Do what only the owner of the tables can: switch the triggers off and change a row."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql, values)


def test_every_event_is_linked_in_the_order_of_commits(events):
    result = audit_verify()
    assert result.is_whole
    assert result.links == len(events) == 6
    assert result.head.startswith("6:")
    assert list(AuditSeal.objects.values_list("event_id", flat=True)) == [e.pk for e in events]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE cases_accessevent SET action = 'view'",
        "DELETE FROM cases_accessevent",
        "UPDATE cases_auditseal SET seq = seq + 100",
        "DELETE FROM cases_auditseal",
    ],
)
def test_the_database_refuses_changes(events, sql):
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(sql)
    assert audit_verify().links == 6


def test_the_database_refuses_to_empty_the_tables(events):
    month = f"cases_accessevent_y{events[0].at:%Y}m{events[0].at:%m}"
    for table in ("cases_accessevent", month, "cases_auditseal", "cases_auditretirement"):
        with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {table}")


def test_a_rolled_back_act_leaves_neither_event_nor_link(events):
    with pytest.raises(RuntimeError), transaction.atomic():
        access_event_record(user=None, action=Action.LOGIN)
        raise RuntimeError
    assert audit_verify().links == 6


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE cases_accessevent SET user_id = NULL WHERE id = %s", "Link 3: event {} was chan"),
        ("UPDATE cases_accessevent SET detail = '{{}}' WHERE id = %s", "Link 3: event {} was chan"),
        ("DELETE FROM cases_accessevent WHERE id = %s", "Link 3: event {} of"),
        ("DELETE FROM cases_auditseal WHERE event_id = %s", "Links 3 to 3 are missing"),
        (
            "UPDATE cases_auditseal SET digest = sha256('x') WHERE event_id = %s",
            "Link 3: event {} was changed, or its link was.",
        ),
    ],
)
def test_tampering_is_found_and_named(events, sql, says):
    tamper(sql.replace("{{", "{").replace("}}", "}"), events[2].pk)
    result = audit_verify()
    assert not result.is_whole
    assert result.findings[0].startswith(says.format(events[2].pk))
    with pytest.raises(CommandError, match="tampered"):
        call_command("audit_verify")


def test_an_event_that_was_slipped_in_is_found(events):
    tamper(
        "INSERT INTO cases_accessevent SELECT gen_random_uuid(), now(), action, channel, address,"
        " department_id, patient_id, object_type, object_id, detail, user_id, outcome, reason,"
        " request_id FROM cases_accessevent WHERE id = %s",
        events[0].pk,
    )
    assert "slipped in" in audit_verify().findings[0]


def test_a_chain_that_was_written_anew_is_found_by_a_head_noted_before(events, capsys):
    call_command("audit_verify")
    head = capsys.readouterr().out.split("head ")[1].strip()
    call_command("audit_verify", anchor=[head])
    tamper("UPDATE cases_accessevent SET reason = 'other' WHERE id = %s", events[0].pk)
    tamper("DELETE FROM cases_auditseal")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT audit_chain(id, at, audit_content(id, at, user_id, action, channel, address,"
            " department_id, patient_id, object_type, object_id, outcome, reason, request_id,"
            " detail)) FROM (SELECT * FROM cases_accessevent ORDER BY at) AS e"
        )
    assert audit_verify().is_whole
    with pytest.raises(CommandError):
        call_command("audit_verify", anchor=[head])


def test_a_cut_off_end_is_found_by_a_head_noted_before(events):
    seq, digest = audit_verify().head.split(":")
    tamper("DELETE FROM cases_accessevent WHERE id = %s", events[-1].pk)
    tamper("DELETE FROM cases_auditseal WHERE event_id = %s", events[-1].pk)
    assert audit_verify().is_whole
    assert "cut off" in audit_verify(anchors={int(seq): digest}).findings[0]


def test_months_are_made_ahead_once():
    months_ensure()
    assert months_ensure() == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_month_ensure('2031-05-01')")
        assert cursor.fetchone() == (True,)
        cursor.execute("DROP TABLE cases_accessevent_y2031m05")


def test_retention_removes_whole_months_and_the_chain_still_verifies(events, settings):
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_month_ensure('2020-02-01')")
        cursor.execute(
            "INSERT INTO cases_accessevent SELECT gen_random_uuid(), '2020-02-10', action,"
            " channel, address, department_id, patient_id, object_type, object_id, detail,"
            " user_id, outcome, reason, request_id FROM cases_accessevent"
        )
    settings.AUDIT_RETENTION_MONTHS = 0
    assert months_retire() == []
    settings.AUDIT_RETENTION_MONTHS = 24
    assert months_retire(now=datetime(2022, 2, 20, tzinfo=UTC)) == []
    assert months_retire(now=datetime(2022, 3, 1, tzinfo=UTC)) == [date(2020, 2, 1)]
    assert AuditRetirement.objects.get().event_count == 6
    assert AccessEvent.objects.filter(reason="retention").count() == 1
    result = audit_verify()
    assert (result.is_whole, result.links, result.retired) == (True, 13, 6)
