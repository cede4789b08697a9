"""Schemathesis over the whole API as each role: no crash, nothing that breaks the schema.

Half of the ids in a generated request are an own object's, the others foreign, missing or
nonsense. ATTACK_EXAMPLES sets how many requests each operation gets of each role.
"""

import os
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.attacks.routes import OBJECTS
from tests.attacks.site import HOST, AttackedSite


@schemathesis.serializer("application/offset+octet-stream", "application/hl7-v2")
def as_bytes(_context: Any, value: Any) -> dict[str, Any]:
    """Send a piece of an upload, or a message, as it is."""
    return {"data": value if isinstance(value, bytes) else str(value).encode()}


EXAMPLES = int(os.environ.get("ATTACK_EXAMPLES", "2"))
ROLES = (
    "pathologist",
    "technician",
    "researcher",
    "department_administrator",
    "system_administrator",
    "token",
)
CHECKS = [
    checks.response_schema_conformance,
    checks.content_type_conformance,
    checks.status_code_conformance,
    checks.response_headers_conformance,
    schemathesis.checks.not_a_server_error,
]


@pytest.fixture(scope="module")
def schema(site) -> Any:
    """Return the schema as the site gives it out."""
    load_all_checks()
    said = site.attacker("anonymous").ask("GET", "/api/v1/schema/?format=json")
    assert said.status == 200, said.text
    return schemathesis.openapi.from_dict(said.json())


def operations(schema: Any) -> Iterator[Any]:
    for result in schema.get_all_operations():
        yield result.ok()


def kind_of(path: str, parameter: str) -> str | None:
    """Return the world's kind of a path parameter."""
    words = path.split(f"{{{parameter}}}")[0].strip("/").split("/")
    return OBJECTS.get(f"api/{words[-1]}") or OBJECTS.get(words[-1])


def named_in_body(site: AttackedSite, body: Any, draw: Any) -> None:
    """Put ids of the world where the body names an object."""
    if isinstance(body, list):
        for item in body:
            named_in_body(site, item, draw)
    if not isinstance(body, dict):
        return
    for key, value in body.items():
        if key in site.world["ids"] and isinstance(value, str):
            body[key] = site.id(key, draw(st.sampled_from(["private", "foreign", "missing"])))
        else:
            named_in_body(site, value, draw)


def aim(site: AttackedSite, case: Any, draw: Any) -> None:
    """Put ids of the world into the generated request."""
    for parameter in case.path_parameters or {}:
        kind = kind_of(case.operation.path, parameter)
        if kind in site.world["ids"] and draw(st.integers(0, 3)):
            place = draw(st.sampled_from(["private", "private", "foreign", "missing"]))
            case.path_parameters[parameter] = site.id(kind, place)
    named_in_body(site, case.body, draw)
    # Made up from the schema's ways to sign in; they would take the place of the role's own.
    for made_up in (case.headers, case.cookies):
        for name in [*(made_up or {})]:
            if name.lower() in {"authorization", "cookie"} or made_up is case.cookies:
                del made_up[name]


def fuzz(operation: Any, attack: Any) -> None:
    """Call `attack` with generated requests of the operation, as each role."""

    @seed(1)
    @settings(
        max_examples=EXAMPLES * len(ROLES),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), data=st.data())
    def run(case: Any, data: Any) -> None:
        attack(case, next(roles), data.draw)

    roles = cycle(ROLES)
    run()


def test_the_whole_api_as_each_role(site, schema, figures):
    base, wrong, asked, statuses = f"http://127.0.0.1:{site.port}", {}, 0, {}
    attackers = {name: site.attacker(name) for name in ROLES}
    session = requests.Session()
    operations_tried = 0
    for operation in operations(schema):
        operations_tried += 1

        def attack(case: Any, role: str, draw: Any) -> None:
            nonlocal asked
            aim(site, case, draw)
            headers = {"Host": HOST, "X-Forwarded-Proto": "https", **attackers[role].headers}
            answer = case.call(
                base_url=base, headers=headers, session=session, allow_redirects=False
            )
            asked += 1
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as group:
                for failure in group.exceptions:
                    key = f"{case.operation.label}: {failure.title}"
                    wrong.setdefault(key, f"{role}: {failure}\n{case.as_curl_command()}")

        fuzz(operation, attack)
    # Whose session had ended would have been refused everything, and proved nothing.
    for role, attacker in attackers.items():
        assert attacker.ask("GET", "/api/v1/departments/").status in (200, 403), role
    figures["schemathesis: operations x roles"] = f"{operations_tried} x {len(ROLES)}"
    figures["schemathesis: requests"] = asked
    figures["schemathesis: statuses"] = dict(sorted(statuses.items()))
    assert not wrong, "\n\n".join(f"{key}\n{text}" for key, text in sorted(wrong.items()))
