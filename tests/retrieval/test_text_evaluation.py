"""Texts that ask for slides: what is left out, and that the reference can be asked too."""

import numpy as np
import pytest
from safetensors.torch import save_file

from retrieval.engine.aligner.archive import Archive
from retrieval.engine.file_evaluation import ask_by_texts, reference_text_results
from retrieval.engine.mosaic import normalised
from tests.retrieval.made_archive import made_archive


def _archive(labels, patients, hospitals, reports):
    count = len(labels)
    return Archive(
        np.zeros((count, 2), np.float32),
        np.arange(count + 1),
        tuple(f"s{i}" for i in range(count)),
        tuple(patients),
        tuple(hospitals),
        tuple(labels),
        ("val",) * count,
        reports,
    )


def test_a_report_finds_its_label_and_its_own_slides():
    # Patient a has two slides; b is like a, in another hospital; c is another disease.
    archive = _archive("xxxy", "aabc", "1123", {"a": "A", "b": "B", "c": "C", "d": "no slide"})
    slides = normalised(np.array([[1.0, 0.1], [1, 0.2], [1, 0.3], [0, 1]]))
    texts = {p: slides[i] for p, i in (("a", 0), ("b", 2), ("c", 3))}
    found = ask_by_texts(slides, texts, archive, np.arange(4))
    assert (found.queries, found.unknown) == (3, 0)
    # a finds b, b finds a; nothing is left that c could find.
    assert found.class_own.hits[1].tolist() == [True, True, False]
    assert found.class_own.answerable.tolist() == [True, True, False]
    assert found.class_hospital.hits[1].tolist() == [True, True, False]
    assert found.pairs.ranks.tolist() == [1, 1, 1]
    assert found.pairs.own_counts.tolist() == [2, 1, 1]
    # Slide to report: the second slide of a lies as near to b's text as to a's, or nearer.
    assert found.reports.gallery_count == 3
    assert found.reports.ranks[[0, 2, 3]].tolist() == [1, 1, 1]
    assert found.joint.hits[1].tolist() == [True, True, True, False]


def test_slides_without_a_label_count_for_pairs_only():
    archive = _archive(["x", "", "x"], "abc", "123", {"a": "A", "b": "B", "c": "C"})
    slides = np.eye(3, dtype=np.float32)
    found = ask_by_texts(slides, dict(zip("abc", slides, strict=True)), archive, np.arange(3))
    assert len(found.class_own.labels) == 2
    assert len(found.pairs.ranks) == 3
    # The unlabelled slide is no wrong answer: it is not in the gallery.
    assert found.class_own.hits[1].tolist() == [True, True]


def test_unread_reports_are_counted_and_none_at_all_is_an_error():
    archive = _archive("xxy", "abc", "123", {"a": "A", "b": "B", "c": ""})
    slides = np.eye(3, dtype=np.float32)
    found = ask_by_texts(slides, {"a": slides[0]}, archive, np.arange(3))
    assert (found.queries, found.unknown) == (1, 1)
    with pytest.raises(ValueError, match="no report"):
        ask_by_texts(slides, {}, archive, np.arange(3))


def test_the_reference_is_asked_by_the_sentences_it_was_trained_on(tmp_path):
    torch = pytest.importorskip("torch")
    from retrieval.engine.aggregator import ReferenceAligner, ReferenceConfig
    from retrieval.engine.reference_weights import released_state

    archive = made_archive(slides=30)
    torch.manual_seed(0)
    config = ReferenceConfig(input_dim=12, dim=16, token_count=2, heads=4, hidden=4)
    model = ReferenceAligner(config, text_dim=5).eval()
    path = tmp_path / "reference.safetensors"
    save_file({k: v.contiguous() for k, v in released_state(model).items()}, path)
    rng = np.random.default_rng(0)
    sentences = {p: rng.normal(size=5).astype(np.float32) for p in set(archive.patients)}
    found = reference_text_results(path, sentences, archive, archive.positions("val"))
    with torch.inference_mode():
        bag = torch.from_numpy(archive.bag(3).astype(np.float32))
        slide = model.visual(bag[None]).embedding[0]
        text = model.embed_text(torch.from_numpy(sentences[archive.patients[3]])[None])[0]
    assert found.queries == len(archive.positions("val"))
    assert torch.isfinite(slide @ text)
    assert found.pairs.ranks.min() >= 1 and found.pairs.ranks.max() <= 30
