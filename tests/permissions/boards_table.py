"""The permission table's rows of tumour boards; a case that may not be seen: tests/cases/boards."""

from typing import Any

from tests.permissions.row import Row


def _item(world: Any, place: str) -> dict[str, Any]:
    return {"pk": world.id("board", place), "item_pk": world.id("board_item", place)}


def _list(world: Any, place: str) -> dict[str, Any]:
    return {"board_pk": world.id("board", place)}


def _api_item(world: Any, place: str) -> dict[str, Any]:
    return {**_list(world, place), "pk": world.id("board_item", place)}


def _new(world: Any, place: str) -> dict[str, Any]:
    return {
        "department": world.id("department", place),
        "title": "New",
        "held_on": "2026-12-01",
    }


def _empty(world: Any, place: str) -> dict[str, Any]:
    return {"board_pk": world.id("board_empty", place)}


def _case(world: Any, place: str) -> dict[str, Any]:
    return {"case": str(world.id("case", place))}


_PTD: dict[str, Any] = {"roles": "PTD"}
_FORM: dict[str, Any] = {"roles": "PTD", "ok": 302, "form": True}

BOARDS = [
    Row("boards", lists="board", nobody=403, **_PTD),
    Row("board_new", nobody=403, **_PTD),
    Row(
        "board_new",
        "POST",
        of="department_pk",
        hidden=200,
        gate=True,
        nobody=403,
        body=lambda world, place: {
            "department": world.id("department_pk", place),
            "title": "New",
            "held_on": "2026-12-01",
        },
        **_FORM,
    ),
    Row("board", of="board", **_PTD),
    Row("board_walk", of="board", **_PTD),
    Row(
        "board_change",
        "POST",
        of="board",
        body=lambda _world, _place: {"title": "Other", "held_on": "2026-12-02"},
        **_FORM,
    ),
    Row("board_remove", "POST", of="board", body=lambda _world, _place: {}, **_FORM),
    Row("board_add", "POST", of="board_empty", body=_case, **_FORM),
    *(
        Row(name, "POST", of="board_item", url=_item, body=body, **_FORM)
        for name, body in (
            ("board_item_change", lambda _world, _place: {"question": "Other"}),
            ("board_item_move", lambda _world, _place: {"by": "1"}),
            ("board_item_remove", lambda _world, _place: {}),
        )
    ),
    Row("boards-list", lists="board", nobody=403, **_PTD),
    Row(
        "boards-list",
        "POST",
        of="department",
        ok=201,
        hidden=400,
        body=_new,
        in_body=True,
        **_PTD,
    ),
    Row("boards-detail", of="board", **_PTD),
    Row("boards-detail", "PATCH", of="board", body=lambda _w, _p: {"title": "Other"}, **_PTD),
    Row("boards-detail", "DELETE", of="board", ok=204, **_PTD),
    Row("board-items-list", of="board", url=_list, **_PTD),
    Row("board-items-list", "POST", of="board_empty", ok=201, url=_empty, body=_case, **_PTD),
    Row(
        "board-items-detail",
        "PATCH",
        of="board_item",
        url=_api_item,
        body=lambda _w, _p: {"question": "Other", "position": 1},
        **_PTD,
    ),
    Row("board-items-detail", "DELETE", of="board_item", ok=204, url=_api_item, **_PTD),
]
