"""Losses, the reference's training with its resumption, the rivals, and the two commands."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from retrieval.engine import evaluate_files, train_files
from retrieval.engine.aggregator import ReferenceConfig
from retrieval.engine.contrastive import label_loss, report_loss
from retrieval.engine.errors import ModelCorrupt
from retrieval.engine.file_evaluation import plain_rivals, slide_to_slide
from retrieval.engine.report_vectors import report_vectors
from retrieval.engine.rivals import (
    Rival,
    barcode_distances,
    barcodes,
    reference_distance,
    whitened,
)
from retrieval.engine.training import TrainingSettings, train_reference
from tests.retrieval.html_page import assert_page_is_sound
from tests.retrieval.made_archive import made_archive, write_archive

CONFIG = ReferenceConfig(input_dim=12, dim=16, token_count=2, heads=4, hidden=4)
# Tiny tensors on several threads spend their time waiting for each other.
torch.set_num_threads(1)
SETTINGS = TrainingSettings(epochs=3, steps=2, batch=8, patches=4, patience=9, gallery=40)


def _unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


def test_report_loss_shares_the_target_among_a_patients_slides():
    slides, reports = _unit(torch.randn(3, 4)), _unit(torch.randn(3, 4))
    reports[1] = reports[0]
    owners, scale = torch.tensor([5, 5, 6]), torch.tensor(math.log(10.0))
    logits = 10 * (slides @ reports.T).double()
    wanted = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype=torch.float64)
    rows = -(wanted * logits.log_softmax(1)).sum(1).mean()
    columns = -(wanted * logits.T.log_softmax(1)).sum(1).mean()
    made = report_loss(slides, reports, owners, scale)
    assert made.item() == pytest.approx(((rows + columns) / 2).item(), abs=1e-5)


def test_label_loss_looks_for_positives_in_other_hospitals_only():
    vectors = _unit(torch.randn(4, 5)).requires_grad_()
    labels, owners = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 3])
    hospitals = torch.tensor([0, 0, 1, 1])
    made = label_loss(vectors, labels, owners, hospitals, temperature=0.5)
    logits = (vectors @ vectors.T / 0.5).detach().double()

    def row(query, positives, compared):
        total = torch.logsumexp(logits[query, compared], 0)
        return (total - logits[query, positives]).mean()

    expected = (row(0, [2], [2, 3]) + row(1, [2], [2, 3]) + row(2, [0, 1], [0, 1, 3])) / 3
    assert made.item() == pytest.approx(expected.item(), abs=1e-5)
    made.backward()
    assert torch.isfinite(vectors.grad).all()


def test_label_loss_without_a_positive_is_zero():
    vectors = _unit(torch.randn(3, 5)).requires_grad_()
    same = torch.zeros(3, dtype=torch.long)
    loss = label_loss(vectors, torch.tensor([0, 1, -1]), torch.arange(3), same)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(vectors.grad).all()


def test_a_killed_training_goes_on_as_if_unbroken(tmp_path):
    archive = made_archive(slides=60)
    train = archive.positions("train")
    rng = np.random.default_rng(0)
    reports = {p: rng.normal(size=5).astype(np.float32) for p in archive.patients}

    def run(checkpoint, progress=lambda _: None):
        return train_reference(
            archive,
            train,
            CONFIG,
            SETTINGS,
            report_vectors=reports,
            checkpoint=checkpoint,
            progress=progress,
        )

    whole = run(tmp_path / "whole.pt")

    class Killed(Exception):
        pass

    def kill_in_the_second_epoch(message):
        if message.startswith("epoch 2"):
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "broken.pt", kill_in_the_second_epoch)
    resumed = run(tmp_path / "broken.pt")
    assert resumed.history == whole.history
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    other = TrainingSettings(**{**SETTINGS.__dict__, "seed": 1})
    with pytest.raises(ModelCorrupt, match="other data or settings"):
        train_reference(archive, train, CONFIG, other, checkpoint=tmp_path / "whole.pt")
    (tmp_path / "whole.pt").write_bytes(b"no state")
    with pytest.raises(ModelCorrupt, match="cannot be read"):
        run(tmp_path / "whole.pt")


def test_report_vectors_are_computed_once(tmp_path):
    class Counting:
        def __init__(self):
            self.seen = []

        def encode(self, texts):
            self.seen += texts
            return np.array([[len(text), 1.0] for text in texts], np.float32)

    encoder, cache = Counting(), tmp_path / "reports.npz"
    first = report_vectors({"a": "x", "b": "xy"}, "counting", cache=cache, encoder=encoder)
    second = report_vectors({"a": "x", "c": "xyz"}, "counting", cache=cache, encoder=encoder)
    assert encoder.seen == ["x", "xy", "xyz"]
    assert first["b"].tolist() == [2, 1]
    assert set(second) == {"a", "c"}


def test_barcodes_by_hand():
    codes = barcodes(np.array([[1.0, 2, 1, 3], [3, 2, 1, 0]]))
    assert codes.tolist() == [[0b10100000], [0]]
    candidates = np.array([[[0b10100000], [0b11111111]], [[0b01000000], [0]]], np.uint8)
    present = np.array([[True, True], [True, False]])
    # Candidate 1: minima 0 and 2. Candidate 2, of which only one code is real: 3 and 1.
    assert barcode_distances(codes, candidates, present).tolist() == [1, 2]


def test_reference_distance_by_hand():
    tokens = np.array([[[0.6, 0.8]], [[0.8, 0.6]]])
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]])
    similarity = reference_distance(tokens, vectors)(np.array([0]), np.array([0, 1]))
    # The token 01 finds the vector 01 of the other slide, and the vector 10 its token 10.
    np.testing.assert_allclose(similarity, [[0, -200 * np.sqrt(2)]], rtol=1e-6)


def test_whitened_training_vectors_have_unit_covariance():
    vectors = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([9, 5, 3, 1, 1, 1])
    made = whitened(vectors, np.arange(50), 4)
    np.testing.assert_allclose(np.cov(made.T), np.eye(4), atol=1e-4)


def test_every_rival_ranks():
    archive = made_archive(slides=60)
    rivals = plain_rivals(archive, archive.positions("train"))
    found = slide_to_slide(rivals, archive, archive.positions("val"), exclude_hospital=True)
    assert set(found) == {
        "mean",
        "whitened mean",
        "prototypes",
        "max-pooled sets",
        "HSHR-style",
        "Yottixel-style",
    }
    assert all(result.answerable.all() for result in found.values())
    assert all(result.summary()["mAP"] > 0.3 for result in found.values())


def test_commands_train_and_measure(tmp_path, capsys):
    folder = tmp_path / "archive"
    folder.mkdir()
    write_archive(made_archive(slides=60), folder)
    out, reference = tmp_path / "out", tmp_path / "reference"
    assert train_files.main([str(folder), "--out", str(out)]) == 0
    assert "label_share" in capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["chosen_on"] == "split val"
    assert card["train"]["hospitals"] == 7
    small = "--kind reference --dim 16 --tokens 2 --epochs 1 --steps 1 --batch 4 --patches 3"
    assert train_files.main([str(folder), "--out", str(reference), *small.split()]) == 0
    arguments = [str(folder), "--model", str(out / "model.safetensors"), "--folds", "2"]
    arguments += ["--reference", str(reference / "reference.safetensors"), "--rounds", "20"]
    figures_at = tmp_path / "figures.json"
    capsys.readouterr()
    page_at = tmp_path / "report.html"
    arguments += ["--json", str(figures_at), "--html", str(page_at)]
    assert evaluate_files.main(arguments) == 0
    printed = capsys.readouterr().out
    for expected in ("| default |", "| reference |", "| Yottixel-style |", "report to own slides"):
        assert expected in printed
    figures = json.loads(figures_at.read_text())
    folds = next(s for s in figures["sections"] if s["title"].startswith("Hospitals of the"))
    assert {method["name"] for method in folds["methods"]} == {
        f"{name}, {gallery}"
        for name in ("mean", "default")
        for gallery in ("all slides", "unseen slides")
    }
    by_slide = {m["name"]: m for m in figures["sections"][0]["methods"]}
    assert {"reference", "HSHR-style", "default"} <= set(by_slide)
    for method in by_slide.values():
        low, high = method["intervals"]["top-1"]
        assert low <= method["figures"]["top-1"] <= high
    assert [pair["name"] for pair in figures["pairs"]] == [
        "default: report to own slides",
        "default: slide to own report",
    ]
    assert sum(map(sum, figures["confusion"]["counts"])) == figures["sections"][0]["queries"]
    assert_page_is_sound(page_at.read_text())


def test_slides_without_a_label_are_in_no_gallery():
    archive = made_archive(slides=40)
    known = ["" if i % 2 else label for i, label in enumerate(archive.labels)]
    archive = replace(archive, labels=tuple(known))
    everything = np.arange(len(archive))
    sizes = set()

    def similarity(queries, gallery):
        sizes.add(len(gallery))
        return np.zeros((len(queries), len(gallery)), np.float32)

    rival = Rival("any", "", similarity)
    for gallery in (None, everything):
        found = slide_to_slide(
            [rival], archive, everything, exclude_hospital=True, gallery=gallery
        )["any"]
        assert len(found.labels) == 20 and (found.predicted >= 0).all()
    assert sizes == {20}


def test_the_card_measures_only_slides_that_were_not_learned_from(tmp_path):
    archive = made_archive(slides=60)
    known = list(archive.labels)
    for slide in archive.positions("val")[:3]:
        known[slide] = ""
    write_archive(replace(archive, labels=tuple(known)), tmp_path)

    def card(*options):
        out = tmp_path / "out"
        assert train_files.main([str(tmp_path), "--out", str(out), *options]) == 0
        return json.loads((out / "card.json").read_text()), (out / "card.md").read_text()

    apart, _ = card()
    assert apart["held_out"]["slides"] == 18
    # Slides without a label are neither asked about nor found.
    assert (apart["figures"]["queries"], apart["figures"]["gallery"]) == (15, 57)
    inner, text = card("--choose-split", "")
    assert inner["chosen_on"] == "an eighth of the training hospitals"
    assert "figures" not in inner and inner["held_out"]["slides"] == 0
    assert "Nothing was held out to measure on." in text


def test_commands_name_what_is_wrong(tmp_path, capsys):
    assert train_files.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    folder = tmp_path / "archive"
    folder.mkdir()
    archive = made_archive(slides=30)
    write_archive(archive, folder)
    lines = (folder / "slides.csv").read_text().replace(",h0,", ",h5,")
    (folder / "slides.csv").write_text(lines)
    assert train_files.main([str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "share a patient or a hospital" in capsys.readouterr().err
