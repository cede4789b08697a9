"""The report file: what it says, and that names in it cannot become markup."""

import json

import numpy as np
import pytest

from retrieval.engine.evaluation import Subjects, cohen_kappa, evaluate_pairs, evaluate_retrieval
from retrieval.engine.evaluation_report import (
    Agreement,
    EvaluationReport,
    GridCell,
    GridRow,
    RetrievalSection,
    class_figures,
    confusion_of,
    method_figures,
    pair_figures,
)
from retrieval.engine.file_evaluation import example_queries, nearest_slides
from retrieval.engine.report_html import report_html
from tests.retrieval.html_page import assert_page_is_sound

EVIL = "<b>&\"'</b>"
NAMES = ("benign", EVIL, "rare")


@pytest.fixture
def report():
    """Return a report over six slides: 0, 0, 1, 1, 1, and one 2 that nothing answers."""
    subjects = Subjects(np.array([0, 0, 1, 1, 1, 2]), np.arange(6), np.arange(6) % 3)
    rng = np.random.default_rng(0)
    near = np.equal.outer(subjects.labels, subjects.labels) + 0.1 * rng.random((6, 6))
    good = evaluate_retrieval(lambda b: near[b], subjects, subjects, exclude_hospital=False)
    poor = evaluate_retrieval(lambda b: -near[b], subjects, subjects, exclude_hospital=False)
    pairs = evaluate_pairs(lambda b: near[b], np.arange(6), np.arange(6))
    return EvaluationReport(
        title=f"Of {EVIL}",
        facts=[("Model", EVIL)],
        notes=[EVIL],
        sections=[
            RetrievalSection(
                "Slide to slide",
                EVIL,
                6,
                6,
                [
                    method_figures(EVIL, "the floor", poor, rounds=50),
                    method_figures("good", "", good, rounds=50),
                ],
            )
        ],
        classes=class_figures(good, NAMES, poor),
        confusion=confusion_of(good, NAMES),
        pairs=[pair_figures(EVIL, pairs)],
        grid=[
            GridRow(
                GridCell(EVIL, "benign"),
                [GridCell("a", "benign", True, "data:image/png;base64,AA=="),
                 GridCell("b", EVIL, False)],
            )
        ],
        agreements=[
            Agreement("anna", "ben", 4, 3, cohen_kappa([1, 1, 0, 0], [1, 1, 0, 1])),
            Agreement("anna", EVIL, 2, 2, cohen_kappa([1, 1], [1, 1])),
        ],
    )  # fmt: skip


def test_the_page_stands_alone_and_is_built_for_every_reader(report):
    text = report_html(report)
    page = assert_page_is_sound(text)
    assert EVIL not in text
    assert len(page.tables) == 6
    assert text.count("same diagnosis") == text.count("another diagnosis") == 1


def test_the_page_says_the_figures(report):
    text = report_html(report)
    good = report.sections[0].methods[1]
    assert good.figures["top-1"] == pytest.approx(5 / 6)
    assert f'<span class="best">{good.figures["top-1"]:.3f}<small>' in text
    assert "not defined" in text and "0.50" in text
    assert "<td>3</td><td>0.000</td><td>1.000</td>" in text  # the class of three


def test_the_figures_as_json_are_whole_and_have_no_pictures(report):
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["agreements"][1]["kappa"] is None
    assert plain["agreements"][0]["kappa"] == pytest.approx(0.5)
    assert "picture" not in plain["grid"][0]["found"][0]
    assert plain["confusion"]["labels"][:2] == ["benign", EVIL]
    assert sum(map(sum, plain["confusion"]["counts"])) == 6
    assert plain["pairs"][0]["figures"]["chance median rank"] > 1


def test_nearest_slides_leave_out_what_the_figures_leave_out():
    subjects = Subjects(np.array([0, 0, 1, -1, 1]), np.array([0, 0, 1, 2, 3]), np.arange(5) % 2)

    def similarity(queries, gallery):
        return -np.abs(queries[:, None] - gallery[None]).astype(np.float32)

    found = nearest_slides(similarity, subjects, np.array([0]), exclude_hospital=False)
    assert found[0].tolist() == [2, 4]
    assert nearest_slides(similarity, subjects, np.array([0]))[0].tolist() == []
    assert nearest_slides(similarity, subjects, np.array([1]), count=1)[0].tolist() == [2]


def test_examples_are_drawn_from_every_label():
    labels = np.array([0] * 20 + [1] * 2 + [2] * 5 + [-1])
    chosen = example_queries(labels, np.arange(28), most=9)
    drawn = labels[chosen].tolist()
    assert drawn == sorted(drawn)
    assert [drawn.count(label) for label in (-1, 0, 1, 2)] == [0, 4, 2, 3]
    assert len(set(chosen.tolist())) == 9
