"""Labels read from reports."""

from dataclasses import replace

import pytest

from retrieval.engine.aligner.diagnoses import (
    frequent_labels,
    kind_of,
    label_of,
    report_labels,
    site_of,
)
from tests.retrieval.made_archive import made_archive


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Right kidney, nephrectomy: renal cell carcinoma, CLEAR CELL type.", "kidney: clear cell"),
        (
            "Lung, left upper lobe, lobectomy: adenocarcinoma. Lymph nodes: no tumor.",
            "lung: adenocarcinoma",
        ),
        (
            "Urinary bladder, cystectomy: urothelial carcinoma with squamous cell differentiation. "
            "Prostate: benign.",
            "bladder: urothelial",
        ),
        ("Liver, segment 4: hepatocellular carcinoma.", "liver: hepatocellular"),
        ("Brain, left temporal: glioblastoma.", "brain: glioblastoma"),
        ("Kidney: carcinoma with sarcomatoid features", "kidney: carcinoma"),
        ("Sample received in formalin.", ""),
        ("", ""),
    ],
)
def test_labels_are_site_and_kind(text, label):
    assert label_of(text) == label


def test_what_is_named_early_and_often_decides():
    assert site_of("stomach " + "x " * 400 + "colon") == "stomach"
    assert site_of("colon resection; colon, sigmoid colon; liver biopsy") == "colon"
    assert site_of("") == ""
    assert kind_of("adenocarcinoma " + "x " * 300 + "melanoma") == "adenocarcinoma"


def test_rare_labels_are_left_out():
    assert frequent_labels(["a", "b", "a", ""], least=2) == ("a", "", "a", "")


def test_an_archive_gets_the_labels_of_its_patients_reports():
    archive = made_archive(slides=20)
    reports = dict.fromkeys(archive.patients[:12], "Liver: hepatocellular carcinoma")
    labels = report_labels(replace(archive, reports=reports))
    assert labels == ("liver: hepatocellular",) * 12 + ("",) * 8
