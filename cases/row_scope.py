"""What the database lets this thread of work see: the second lock, under `visible_to`.

Every table with patient data has a policy of row security (`cases.row_security`). The policies
read what is said here: a request says the departments of its user, a command or worker says that
it acts for the site. Nothing said is nothing seen.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from cases import permissions

APP_ROLE = "pathsearch_app"
# (user) -> ids of cases that were opened to this user alone, whatever the department.
_opened: list[Callable[[Any], Iterable[Any]]] = []


@dataclass(frozen=True)
class RowScope:
    """What the policies read. The empty one sees nothing.

    actor: who is at work, also where the site acts for them; the history keeps it.
    is_owner: as the owner of the tables, for changes of the schema.
    """

    departments: tuple[int, ...] = ()
    audited: tuple[int, ...] = ()
    user_id: int | None = None
    actor: int | None = None
    cases: tuple[UUID, ...] = ()
    is_system: bool = False
    is_owner: bool = False


CLOSED = RowScope()
SYSTEM = RowScope(is_system=True)
OWNER = RowScope(is_system=True, is_owner=True)


@dataclass
class _OfUser:
    """The scope of a user, read from the database when something is first asked of it."""

    user: Any
    found: RowScope | None = field(default=None)
    kept: dict[str, Any] = field(default_factory=dict)

    def scope(self) -> RowScope:
        if self.found is None:
            self.found = CLOSED  # holds while the rights themselves are read
            try:
                self.found = _scope_of(self.user)
            except BaseException:
                self.found = None
                raise
        return self.found


_said: ContextVar[RowScope | _OfUser | None] = ContextVar("row_scope", default=None)
_process: list[RowScope] = [CLOSED]


def _scope_of(user: Any) -> RowScope:
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return CLOSED
    cases = {UUID(str(pk)) for opened in _opened for pk in opened(user)}
    return RowScope(
        departments=tuple(sorted(permissions.departments_of(user))),
        audited=tuple(sorted(permissions.departments_with(user, "read_audit"))),
        user_id=user.pk,
        actor=user.pk,
        cases=tuple(sorted(cases)),
    )


def opens_cases(of: Callable[[Any], Iterable[Any]]) -> None:
    """Let `of(user)` name cases of other departments that were opened to this user alone."""
    _opened.append(of)


def current() -> RowScope:
    """Return what this thread of work may see."""
    said = _said.get()
    if said is None:
        return _process[0]
    return said.scope() if isinstance(said, _OfUser) else said


def said() -> Any:
    """Return what was said in this context, to be given to `restored` or `said_again`."""
    return _said.get()


def user_said() -> tuple[Any, dict[str, Any]] | None:
    """Return for whom this context acts, with what may be kept meanwhile; None for the site."""
    said = _said.get()
    return (said.user, said.kept) if isinstance(said, _OfUser) else None


def said_again(before: Any) -> None:
    """Say what `said()` returned earlier."""
    _said.set(before)


def user_set(user: Any) -> None:
    """Say for whom the rest of this context acts; the rights are read when they are needed."""
    _said.set(_OfUser(user))


def process_acts_for_system(*, as_owner: bool = False) -> None:
    """Say that this process (a command, a worker) acts for the site wherever nothing else is said.

    Never called by a process that answers requests.
    """
    _process[0] = OWNER if as_owner else SYSTEM


@contextmanager
def restored(before: Any) -> Iterator[None]:
    """Say what `said()` returned earlier, and at the end what was said before this."""
    now = _said.get()
    _said.set(before)
    try:
        yield
    finally:
        _said.set(now)


@contextmanager
def acting_for_user(user: Any) -> Iterator[None]:
    """Act for this user alone."""
    with restored(_OfUser(user)):
        yield


@contextmanager
def acting_for_system(reason: str) -> Iterator[None]:
    """Act for the site, past the departments. reason: why no user's scope is enough."""
    if not reason:
        raise ValueError("Acting for the site needs a reason.")
    said = _said.get()
    user = said.user if isinstance(said, _OfUser) else None
    actor = getattr(user, "pk", None) if said is not None else None
    actor = said.actor if isinstance(said, RowScope) else actor
    with restored(replace(SYSTEM, actor=actor)):
        yield


@contextmanager
def acting_as_owner(reason: str) -> Iterator[None]:
    """Act as the owner of the tables, to change the schema: an index, a partition."""
    if not reason:
        raise ValueError("Acting as the owner needs a reason.")
    with restored(OWNER):
        yield


def words_of(scope: RowScope, *, is_on: bool = True) -> str:
    """Return the statements that say this scope; SET takes no snapshot, as a SELECT would.

    All values are numbers and ids made here. is_on: in the application's role.
    """
    values = {
        "system": "on" if scope.is_system else "",
        "departments": _array(scope.departments),
        "audited": _array(scope.audited),
        "user_id": "" if scope.user_id is None else f"{scope.user_id:d}",
        "actor": "" if scope.actor is None else f"{scope.actor:d}",
        "cases": _array(scope.cases),
    }
    settings = "".join(f"; SET pathsearch.{name} = '{value}'" for name, value in values.items())
    role = APP_ROLE if is_on and not scope.is_owner else "NONE"
    # Policies make statements look dear to Postgres, which then compiles what runs for a moment.
    return f"SET ROLE {role}; SET jit = off{settings}"


def _array(values: Iterable[int | UUID]) -> str:
    return "{" + ",".join(map(str, values)) + "}"
