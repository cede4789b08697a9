"""HL7 messages: how they are read, and what A40 and A37 do."""

import pytest

from cases.lis import hl7
from cases.models import AccessEvent, Case, Patient, PatientMerge
from cases.permissions import Role
from cases.row_scope import acting_for_system
from tests.cases.api.conftest import client_with_token
from tests.factories import make_member

pytestmark = pytest.mark.django_db

HL7 = "application/hl7-v2"


def header(event: str, control_id: str = "MSG1", charset: str = "UNICODE UTF-8") -> str:
    return (
        f"MSH|^~\\&|ADT|HOSPITAL|PATHSEARCH|LAB|20260301120000||ADT^{event}^ADT_A39|{control_id}"
        f"|P|2.5.1||||||{charset}"
    )


def message(site, event: str, *pairs: tuple[str, str], control_id: str = "MSG1") -> str:
    """Return an A40 of (stays, goes), or an A37 of two."""
    issuer = site.north.mrn_issuer
    lines = [header(event, control_id), "EVN||20260301120000"]
    for stays, goes in pairs:
        lines.append(f"PID|1||{stays}^^^{issuer}^MR~999^^^TAX^SS||Doe^Jane||19600501|F")
        if event == "A40":
            lines.append(f"MRG|{goes}^^^{issuer}^MR")
        else:
            lines.append(f"PID|2||{goes}^^^{issuer}^MR||Doe^Jane")
    return "\r".join(lines) + "\r"


def send(client, text: str | bytes, query: str = ""):
    return client.generic("POST", f"/api/v1/hl7/{query}", text, content_type=HL7)


def answer_of(response) -> list[str]:
    assert response["Content-Type"].startswith(HL7)
    acknowledgement = hl7.read(response.content)
    assert acknowledgement.segments[1].name == "MSA"
    return [acknowledgement.segments[1].field(number) for number in (1, 2, 3)]


def owners() -> dict[str, str]:
    with acting_for_system("to look"):
        return dict(Case.objects.values_list("accession_number", "patient__mrn"))


def test_a40_merges_and_twice_is_once(site):
    response = send(site.adt, message(site, "A40", ("A1", "B2")))
    assert (response.status_code, *answer_of(response)) == (200, "AA", "MSG1", "1 merged")
    assert owners() == {"S-A": "A1", "S-B": "A1"}
    again = send(site.adt, message(site, "A40", ("A1", "B2"), control_id="MSG2"))
    assert answer_of(again)[:2] == ["AA", "MSG2"]
    with acting_for_system("to look"):
        merge = PatientMerge.objects.get()
        assert (merge.source, merge.message_id, merge.by) == ("hl7", "MSG1", site.admin)
        assert AccessEvent.objects.filter(action="merge", detail__message="MSG1").count() == 2


def test_a37_takes_it_back_whatever_the_order(site):
    send(site.adt, message(site, "A40", ("A1", "B2")))
    assert answer_of(send(site.adt, message(site, "A37", ("B2", "A1"))))[2] == "1 separated"
    assert owners() == {"S-A": "A1", "S-B": "B2"}
    assert answer_of(send(site.adt, message(site, "A37", ("B2", "A1"))))[0] == "AA"


def test_several_pairs_of_one_message_are_done_or_none(site):
    send(site.adt, message(site, "A40", ("C3", "B2")))
    response = send(site.adt, message(site, "A40", ("C3", "A1"), ("A1", "B2")))
    assert (response.status_code, answer_of(response)[0]) == (200, "AA")  # A1 is C3 by then
    send(site.adt, message(site, "A37", ("C3", "A1")))
    response = send(site.adt, message(site, "A40", ("C3", "A1"), ("D4", "B2")))
    assert response.status_code == 409
    assert answer_of(response)[0] == "AE"
    assert owners() == {"S-A": "A1", "S-B": "C3"}


def test_numbers_that_are_not_here_yet_are_kept_for_what_comes(site):
    """The survivor is new, or the old number: a case under either is one patient's."""
    assert answer_of(send(site.adt, message(site, "A40", ("NEW", "B2"))))[2] == "1 merged"
    assert owners()["S-B"] == "NEW"
    send(site.adt, message(site, "A40", ("A1", "OLD")))
    body = {"department": "north", "accession_number": "S-1", "patient": {"mrn": "OLD"}}
    assert site.lis.post("/api/v1/cases/", body, format="json").status_code == 201
    assert owners()["S-1"] == "A1"
    with acting_for_system("to look"):
        made = Patient.objects.get(mrn="NEW")
        assert (made.family_name, made.given_name, str(made.birth_date), made.sex) == (
            "Doe", "Jane", "1960-05-01", "F",
        )  # fmt: skip
    response = send(site.adt, message(site, "A40", ("NOBODY", "NOONE")))
    assert answer_of(response)[0] == "AA"
    with acting_for_system("to look"):
        assert not Patient.objects.filter(mrn__in=["NOBODY", "NOONE"]).exists()


def test_it_reaches_no_department_but_the_sender_s(site):
    send(site.adt, message(site, "A40", ("A1", "B2")))
    with acting_for_system("to look"):
        site.foreign.refresh_from_db()
        assert site.foreign.merged_into_id is None
    assert (
        send(site.adt, message(site, "A40", ("A1", "C3")), "?department=south").status_code == 400
    )
    pathologist = make_member(site.north, Role.PATHOLOGIST)
    client = client_with_token(pathologist, scopes=["patients:merge"])
    assert send(client, message(site, "A40", ("A1", "C3"))).status_code == 403
    assert send(site.lis, message(site, "A40", ("A1", "C3"))).status_code == 403


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "begins with MSH"),
        (b"PID|1||A1", "begins with MSH"),
        (b"MSHABCDEFGHIJK", "five separators"),
        (b"MSH|^~\\|x|y", "five separators"),
        (header("A01").encode() + b"\rPID|1||A1", "A40 and A37"),
        (header("A40").encode() + b"\rPID|1||A1^^^X", "no two patient numbers"),
        (header("A40").encode() + b"\rPID|1||A1^^^X\rMRG|B2^^^Y", "no two patient numbers"),
        (header("A40").encode() + b"\rPID|1||" + b"1" * 65 + b"\rMRG|B2", "too long"),
        (header("A40").encode() + b"\rPID|1||A\x001\rMRG|B2", "control characters"),
        (header("A40", charset="KLINGON").encode() + b"\rPID|1||A1\rMRG|B2", "MSH-18"),
        (header("A40").encode() + b"\rPID|1||\xff\rMRG|B2", "MSH-18"),
    ],
)
def test_what_is_no_message_of_ours_is_rejected_with_the_reason(site, text, why):
    response = send(site.adt, text)
    assert response.status_code == 400
    code, _control_id, reason = answer_of(response)
    assert code == "AR" and why in reason


def test_a_message_that_is_too_long_is_not_read(site):
    response = send(site.adt, message(site, "A40", ("A1", "B2")) + "NTE|" + "x" * hl7.SIZE_MOST)
    assert response.status_code == 413


def test_separators_escapes_frames_and_character_sets():
    text = "MSH#$%!*#A#B#C#D#2026##ADT$A40#ID!F!1#P#2.3#######8859/1"
    text = text.replace("#######", "######") + '\nPID#1##1!S!2$$$Iss*uid$MR#""#M\xfcller$""'
    read = hl7.read(b"\x0b" + text.encode("latin-1") + b"\x1c\r")
    assert read.control_id == "ID#1"
    pid = read.segments[1]
    assert pid.numbers(3) == [hl7.PatientNumber("1$2", "Iss", "MR")]
    assert pid.component(5) == "Müller" and pid.component(5, 2) == ""
    told = hl7.acknowledgement(read, "AA", "a|b^c\nd\\")
    again = hl7.read(told.encode())
    assert again.segments[1].component(2) == "ID#1"
    assert again.segments[1].component(3) == "a|b^c d\\"
    assert again.header.component(12) == "2.3"


def test_the_usual_separators_need_no_more_than_a_carriage_return(site):
    text = message(site, "A40", ("A1", "B2")).replace("\r", "\r\n")
    assert answer_of(send(site.adt, text))[0] == "AA"
