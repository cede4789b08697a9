"""The quick door to frames: what it answers is what Django answers, and rights end at once."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.dicomweb import frame_door
from cases.dicomweb.frame_door import FrameDoor
from cases.dicomweb.frame_rights import statement
from cases.models import AccessEvent, ApiToken, Cohort, CohortEntry, Membership
from cases.permissions import Role
from cases.services import looks, tokens
from pathsearch_site.asgi import application
from tests.cases.intake.conftest import only_item
from tests.factories import DepartmentFactory, make_member
from tests.synthetic_slide import picture, write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)


class Site:
    """The door before an application that counts what it is left."""

    def __init__(self) -> None:
        self.left = 0
        self.inner = application.app

    async def app(self, scope, receive, send) -> None:
        self.left += 1
        await self.inner(scope, receive, send)

    def get(self, *requests):
        """Return [(status, headers, body)], asked one after the other in one event loop."""
        return asyncio.run(self._get(requests))

    async def _get(self, requests):
        door = FrameDoor(self.app, connections=2)
        try:
            answers = []
            for request in requests:
                if callable(request):
                    await asyncio.to_thread(_in_thread, request)
                else:
                    answers.append(await self._one(door, *request))
            return answers
        finally:
            if door._pool is not None:
                await door._pool.close()

    async def _one(self, door, path, headers):
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"testserver"),
                *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        link = ApplicationCommunicator(door, scope)
        await link.send_input({"type": "http.request", "body": b"", "more_body": False})
        start = await link.receive_output(60)
        body, more = b"", True
        while more:
            piece = await link.receive_output(60)
            body, more = body + bytes(piece.get("body", b"")), piece.get("more_body", False)
        await link.wait(60)
        named = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return start["status"], named, body


def _in_thread(act) -> None:
    try:
        act()
    finally:
        connections.close_all()


@pytest.fixture
def site():
    looks._recorded.clear()
    return Site()


@pytest.fixture
def image(deliver, department, tmp_path):
    folder = write_dicom_slide(tmp_path / "s", rgb=picture(600, 520), levels=2, label=True)
    return only_item(deliver(folder)).slide_image


@pytest.fixture
def path(image) -> str:
    return path_of(image, image.instances.get(total_columns=600))


def path_of(image, instance) -> str:
    return (
        f"/dicomweb/studies/{image.study_instance_uid}/series/{image.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}/frames"
    )


def bearer(user, **more) -> dict[str, str]:
    more = {"scopes": ["dicomweb:read"], **more}
    _token, key = tokens.token_create(user=user, name="v", **more)
    return {"Authorization": f"Bearer {key}"}


def cookie(user) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    client.get(reverse("healthz"))  # the session's times are written by its first page
    return {"Cookie": f"a=b; sessionid={client.cookies['sessionid'].value}"}


@pytest.mark.parametrize("sign_in", [bearer, cookie])
@pytest.mark.parametrize(
    ("frames", "accept"),
    [
        ("2", "image/jpeg"),
        ("2", "*/*"),
        ("1,3", 'multipart/related; type="image/jpeg"'),
        ("1", 'multipart/related; type="application/octet-stream"; transfer-syntax=*'),
    ],
)
def test_it_says_what_django_says(site, department, path, sign_in, frames, accept):
    user = make_member(department, Role.PATHOLOGIST)
    request = (f"{path}/{frames}", {**sign_in(user), "Accept": accept})
    slow, warm, quick = site.get(request, request, request)
    assert site.left < 3, "the door answered nothing"
    assert slow[0] == quick[0] == 200
    # The language is the pages' matter; each answer has an id of its own.
    named = set(slow[1]) - {"vary", "content-language", "content-type", "x-request-id", "allow"}
    assert {"x-frame-options", "content-security-policy", "referrer-policy"} < named
    assert {name: slow[1][name] for name in named} == {name: quick[1].get(name) for name in named}
    assert len({slow[1]["x-request-id"], quick[1]["x-request-id"]}) == 2
    boundary = slow[1]["content-type"].partition("boundary=")[2].encode()
    other = quick[1]["content-type"].partition("boundary=")[2].encode()
    assert slow[1]["content-type"].replace(boundary.decode(), "") == quick[1][
        "content-type"
    ].replace(other.decode(), "")
    if boundary:
        assert slow[2].replace(boundary, b"") == quick[2].replace(other, b"")
    else:
        assert slow[2] == quick[2]
    assert warm[0] == 200
    unchanged = (request[0], {**request[1], "If-None-Match": slow[1]["etag"]})
    before = site.left
    (answer,) = site.get(unchanged)
    assert (answer[0], answer[2], site.left) == (304, b"", before)
    assert AccessEvent.objects.filter(user=user, action="view").count() == 1


def test_browsers_are_told_to_stay_with_https(site, department, path, settings):
    settings.SECURE_HSTS_SECONDS = 3600
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    user = bearer(make_member(department, Role.PATHOLOGIST))
    secure = (f"{path}/1", {**user, "X-Forwarded-Proto": "https"})
    frame_door._site_headers.cache_clear()
    try:
        site.get(secure, secure)
        before = site.left
        answers = site.get(secure, (f"{path}/1", user))
    finally:
        frame_door._site_headers.cache_clear()
    assert site.left == before, "the door answered nothing"
    told = [headers.get("strict-transport-security") for _status, headers, _body in answers]
    assert told == ["max-age=3600", None]


@pytest.mark.parametrize("sign_in", [bearer, cookie])
@pytest.mark.parametrize("level", ["", "/series", "/instances"])
@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_metadata_is_what_django_says(site, department, image, path, sign_in, level, encoding):
    pathologist = make_member(department, Role.PATHOLOGIST)
    address = path.removesuffix("/frames")
    if level != "/instances":
        address = address.partition(level or "/series")[0]
        address += f"/series/{image.series_instance_uid}" if level == "/series" else ""
    headers = {"Accept": "application/dicom+json"}
    headers |= {"Accept-Encoding": encoding} if encoding else {}
    asked = (f"{address}/metadata", {**sign_in(pathologist), **headers})
    one = site.get(asked, asked)[0]
    before = site.left
    (other,) = site.get(asked)
    assert site.left == before, "the door answered nothing"
    assert (one[0], one[2]) == (other[0], other[2])
    for name in ("etag", "cache-control", "content-type", "content-length"):
        assert one[1][name] == other[1][name], name
    assert one[1].get("content-encoding", "") == encoding
    _lose_membership(pathologist)
    assert site.get(asked)[0][0] == 404


@pytest.mark.parametrize("sign_in", [bearer, cookie])
def test_a_researcher_gets_the_cleaned_header_from_django(site, department, image, path, sign_in):
    address = f"{path.removesuffix('/frames')}/metadata"
    asked = [
        (address, {**sign_in(make_member(department, role)), "Accept": "application/dicom+json"})
        for role in (Role.PATHOLOGIST, Role.RESEARCHER)
    ]
    site.get(*asked, *asked)
    before = site.left
    plain, cleaned = (json.loads(answer[2])[0] for answer in site.get(*asked))
    assert site.left == before + 1  # what the door keeps has names in it
    assert plain["00100020"]["Value"] == ["MRN-1"]
    assert len(cleaned["00100020"]["Value"][0]) == 13
    assert plain["00080018"] == cleaned["00080018"]


def _lose_membership(user):
    Membership.objects.filter(user=user).delete()


def _become_inactive(user):
    get_user_model().objects.filter(pk=user.pk).update(is_active=False)


def _revoke(user):
    ApiToken.objects.filter(user=user).update(revoked_at=timezone.now())


def _expire(user):
    ApiToken.objects.filter(user=user).update(expires_at=timezone.now())


def _lose_scope(user):
    ApiToken.objects.filter(user=user).update(scopes=["cases:read"])


def _change_key(user):
    ApiToken.objects.filter(user=user).update(key_sha256="0" * 64)


def _change_password(user):
    user = get_user_model().objects.get(pk=user.pk)
    user.set_password("another horse battery")
    user.save()


def _sign_out(user):
    Session.objects.all().delete()


def _age(name, seconds):
    def age(_user):
        session = SessionStore(Session.objects.get().session_key)
        session[name] = int(time.time()) - seconds
        session.save()

    return age


def _narrow_addresses(user):
    ApiToken.objects.filter(user=user).update(addresses=["192.0.2.1"])


def _become_administrator_only(user):
    Membership.objects.filter(user=user).update(role="system_administrator", department=None)


@pytest.mark.parametrize(
    ("sign_in", "lose", "status"),
    [
        (bearer, _lose_membership, 404),
        (bearer, _become_inactive, 401),
        (bearer, _revoke, 401),
        (bearer, _expire, 401),
        (bearer, _lose_scope, 403),
        (bearer, _change_key, 401),
        (bearer, _become_administrator_only, 404),
        (bearer, _narrow_addresses, 401),
        (cookie, _age("seen_at", 86400), 401),
        (cookie, _age("began_at", 86400), 401),
        (cookie, _lose_membership, 404),
        (cookie, _become_inactive, 401),
        (cookie, _change_password, 401),
        (cookie, _sign_out, 401),
    ],
)
def test_a_right_that_is_taken_away_ends_with_the_next_frame(
    site, department, path, sign_in, lose, status
):
    user = make_member(department, Role.PATHOLOGIST)
    request = (f"{path}/1", {**sign_in(user), "Accept": "image/jpeg"})
    *before, after = site.get(request, request, request, lambda: lose(user), request)
    assert [answer[0] for answer in before] == [200, 200, 200]
    assert site.left <= 3
    assert after[0] == status
    assert b"\xff\xd8" not in after[2]


def test_sharing_opens_it_and_its_end_closes_it(site, department, image, path):
    partner = DepartmentFactory()
    user = make_member(partner, Role.PATHOLOGIST)
    cohort = Cohort.objects.create(department=department, name="shared")
    entry = CohortEntry.objects.create(cohort=cohort, slide_image=image)
    request = (f"{path}/1", {**bearer(user), "Accept": "image/jpeg"})

    def unshare():
        cohort.shared_with.clear()

    def share():
        cohort.shared_with.add(partner)

    def remove():
        CohortEntry.objects.filter(pk=entry.pk).update(
            removed_at=timezone.now(), removed_reason="wrong"
        )

    answers = site.get(
        request, share, request, request, request, unshare, request, share, request, remove, request
    )
    assert [a[0] for a in answers] == [404, 200, 200, 200, 404, 200, 404]


def test_a_token_narrowed_to_another_department_opens_nothing(site, department, path):
    other = DepartmentFactory()
    user = make_member(department, Role.PATHOLOGIST)
    Membership.objects.create(user=user, department=other, role=Role.PATHOLOGIST)
    narrowed = bearer(user, departments=[other])
    wide = bearer(user, departments=[other, department])
    asked = [(f"{path}/1", {**headers, "Accept": "image/jpeg"}) for headers in (wide, narrowed)]
    answers = site.get(asked[0], asked[0], asked[0], asked[1])
    assert [a[0] for a in answers] == [200, 200, 200, 404]


def test_labels_and_what_it_does_not_know_are_left_to_django(site, department, image, path):
    user = make_member(department, Role.PATHOLOGIST)
    label = image.instances.get(flavor="label")
    headers = {**bearer(user), "Accept": "image/jpeg"}
    one = (f"{path}/1", headers)
    label_frame = (f"{path_of(image, label)}/1", headers)
    site.get(one, one, one)
    before = site.left
    answers = site.get(
        label_frame,
        (f"{path}/99", headers),
        (f"{path}/0", headers),
        (f"{path}/1", {**headers, "Accept": "image/jp2"}),
        (f"{path}/1", {**headers, "Range": "bytes=0-1"}),
        (f"{path}/1", {**headers, "Accept": "application/octet-stream"}),
        (f"{path}/1", {"Accept": "image/jpeg"}),
        (f"{path}/1", {"Authorization": "Bearer ps_x_y"}),
    )
    assert [a[0] for a in answers] == [200, 404, 404, 406, 206, 200, 401, 401]
    assert site.left == before + len(answers)
    assert AccessEvent.objects.filter(user=user, detail__part="label").count() == 1


def test_many_first_frames_are_one_look(department, image):
    user = make_member(department, Role.PATHOLOGIST)
    looks._recorded.clear()

    def look(_number):
        try:
            looks.slide_view_record(user=user, slide_image=image)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(16)))
    assert AccessEvent.objects.filter(user=user, action="view").count() == 1


def test_the_statement_is_visible_to_itself():
    sql, parameters = statement("token", study="1", series="2", sop="3", prefix="p")
    assert sql.count("%s") == len(parameters)
    assert "cohort" in sql, "sharing is part of it"
    assert not any("<" in str(one) for one in parameters)


def test_a_role_that_needs_a_second_factor_gets_no_frame_without(site, department, path, settings):
    user = make_member(department, Role.PATHOLOGIST)
    request = (f"{path}/1", {**cookie(user), "Accept": "image/jpeg"})

    def require():
        settings.MFA_ROLES = ["pathologist"]

    *before, after = site.get(request, request, request, require, request)
    assert [answer[0] for answer in before] == [200, 200, 200]
    assert after[0] == 403
