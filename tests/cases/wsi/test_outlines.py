"""Outlines on a slide: what is taken, and their measures."""

import math

import pytest

from cases.wsi import outlines
from cases.wsi.outlines import BadOutline, outline

SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100]]


def test_points_are_rounded_and_kept_in_order():
    assert outline("polygon", [[0.4, 0], [10.6, 0], [5, 9.5]], 100, 100) == [
        [0, 0],
        [11, 0],
        [5, 10],
    ]


@pytest.mark.parametrize(
    ("kind", "points", "why"),
    [
        ("circle", SQUARE, "no kind"),
        ("rectangle", SQUARE[:3], "4 to 4"),
        ("polygon", SQUARE[:2], "3 to 200"),
        ("polygon", SQUARE * 60, "3 to 200"),
        ("freehand", SQUARE * 501, "3 to 2000"),
        ("line", [[1, 1], [1, 1]], "two different"),
        ("polygon", [[0, 0], [50, 50], [100, 100]], "no area"),
        ("rectangle", [[-1, 0], *SQUARE[1:]], "outside"),
        ("rectangle", [[math.nan, 0], *SQUARE[1:]], "outside"),
        ("rectangle", [[math.inf, 0], *SQUARE[1:]], "outside"),
        ("rectangle", [[0, 101], *SQUARE[1:]], "outside"),
        ("rectangle", [[True, 0], *SQUARE[1:]], "numbers"),
        ("rectangle", [["0", 0], *SQUARE[1:]], "numbers"),
        ("rectangle", [[0, 0, 0], *SQUARE[1:]], "pair"),
        ("rectangle", "points", "4 to 4"),
    ],
)
def test_what_is_no_outline_is_refused_with_its_reason(kind, points, why):
    with pytest.raises(BadOutline, match=why):
        outline(kind, points, 100, 100)


def test_lengths_and_areas_are_in_micrometres():
    assert outlines.length([[0, 0], [30, 40]], 0.5, is_closed=False) == pytest.approx(25)
    assert outlines.length(SQUARE, 0.5, is_closed=True) == pytest.approx(200)
    assert outlines.area(SQUARE, 0.5) == pytest.approx(2500)
    assert outlines.area(SQUARE[::-1], 0.5) == pytest.approx(2500)
    triangle = [[0, 0], [100, 0], [0, 50]]
    assert outlines.area(triangle) == pytest.approx(2500)


def test_a_circle_of_many_points_has_the_circle_s_measures():
    turns = [2 * math.pi * n / 2000 for n in range(2000)]
    ring = [[500 + 400 * math.cos(t), 500 + 400 * math.sin(t)] for t in turns]
    assert outlines.area(ring) == pytest.approx(math.pi * 400**2, rel=1e-4)
    assert outlines.length(ring, 1, is_closed=True) == pytest.approx(2 * math.pi * 400, rel=1e-4)
    assert not outlines.crosses_itself(ring)


def test_a_ring_that_crosses_itself_is_known():
    bow = [[0, 0], [100, 100], [100, 0], [0, 100]]
    assert outlines.crosses_itself(bow)
    assert not outlines.crosses_itself(SQUARE)
    dented = [[0, 0], [100, 0], [50, 50], [100, 100], [0, 100]]
    assert not outlines.crosses_itself(dented)
