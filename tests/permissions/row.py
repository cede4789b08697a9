"""A row of the permission table.

It says, for one route and method:

of       what its object is (a kind of the world); "" for a route without one
roles    who may, by letter: Pathologist, Technician, Researcher, Department administrator
ok       the status for who may
partner  what a shared object is to the partner: "ok", "denied" (403) or "hidden"
hidden   the status for an object that is hidden or missing (404 unless the object is named in
         the body, where it is a wrong value)
nobody   the status for somebody without any clinical role, on a route without an object
by_name  found by what identifies: for a researcher it finds nothing
lists    the kind whose ids the answer lists, to be exactly those the actor sees
gate     the role is asked for before the object, so that who may not gets 403 for any of them
in_body  the object is named in the body, not in the address
public   open to everybody; signed_in: its status for who has a session, where it differs

Everybody is tried on their own, a shared, a foreign and a missing object.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ALL = "PTRD"
Of = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Row:
    """One route and method of the table; see the module's docstring."""

    name: str
    method: str = "GET"
    of: str = ""
    roles: str = ALL
    ok: int = 200
    partner: str = "ok"
    hidden: int = 404
    nobody: int = 200
    lists: str = ""
    by_name: bool = False
    gate: bool = False
    public: bool = False
    signed_in: int = 0
    in_body: bool = False
    url: Of | None = None
    query: str = ""
    body: Of | None = None
    headers: Of | None = None
    form: bool = False
    content_type: str = "application/offset+octet-stream"  # of a body of bytes
    variant: str = ""

    @property
    def key(self) -> str:
        """Return the name of the row in a test report."""
        return " ".join(part for part in (self.name, self.method, self.variant) if part)

    @property
    def is_api(self) -> bool:
        """Return whether the route belongs to the API: tokens work, errors are problems."""
        return "-" in self.name
