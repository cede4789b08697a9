"""The default model on a small archive where hospitals vary more than diagnoses."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from retrieval.engine.aligner.archive import ArchiveInvalid, hospital_folds, read_archive
from retrieval.engine.aligner.discriminant import fit_discriminant, soft_labels
from retrieval.engine.aligner.fit import Choice, FitSettings, embed_archive, fit_aligner, settled
from retrieval.engine.aligner.model import NoTextSide, load_aligner, save_aligner
from retrieval.engine.aligner.statistics import bag_statistics, slide_statistics
from retrieval.engine.aligner.words import (
    WordConfig,
    balanced_weights,
    fit_ridge,
    fit_words,
    hashed_words,
)
from retrieval.engine.errors import ModelCorrupt, ModelMissing
from retrieval.engine.file_evaluation import default_similarity, slide_to_slide
from retrieval.engine.rivals import Rival, mean_pooling
from tests.retrieval.made_archive import made_archive, write_archive

SETTINGS = FitSettings(direction_count=8, model={"token_count": 4})


@pytest.fixture(scope="module")
def archive():
    return made_archive()


@pytest.fixture(scope="module")
def model(archive):
    return fit_aligner(archive, archive.positions("train"), SETTINGS)


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_statistics_are_those_of_numpy_in_any_order(count):
    rng = np.random.default_rng(count)
    features = rng.normal(size=(count, 70)).astype(np.float32)
    made = slide_statistics(features).reshape(7, 70)
    np.testing.assert_allclose(made[0], features.mean(0), atol=1e-6)
    np.testing.assert_allclose(made[1], features.std(0), atol=1e-6)
    expected = np.quantile(features, [0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
    np.testing.assert_allclose(made[2:], expected, atol=1e-6)
    again = slide_statistics(features[rng.permutation(count)])
    assert np.array_equal(again, made.ravel())


def test_statistics_refuse_what_they_cannot_describe():
    with pytest.raises(ValueError, match="N >= 1"):
        slide_statistics(np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        slide_statistics(np.full((2, 3), np.nan, np.float32))


def test_discriminant_equals_the_textbook():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    inputs = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=(3, 5))[labels]
    fitted = fit_discriminant(inputs, labels, label_count=3, shrinkage=0.0, direction_count=2)
    means = np.stack([inputs[labels == k].mean(0) for k in range(3)])
    within = sum(np.cov(inputs[labels == k].T, bias=True) * (labels == k).sum() for k in range(3))
    precision = np.linalg.inv(within / 300)
    densities = np.stack(
        [-0.5 * np.einsum("nd,de,ne->n", inputs - m, precision, inputs - m) for m in means], 1
    )
    scores = fitted.scores(inputs)
    np.testing.assert_allclose(
        scores - scores.mean(1, keepdims=True),
        densities - densities.mean(1, keepdims=True),
        atol=1e-3,
    )
    projected = fitted.project(inputs)
    residual = projected - np.stack([projected[labels == k].mean(0) for k in range(3)])[labels]
    np.testing.assert_allclose(residual.T @ residual / 300, np.eye(2), atol=0.02)


def test_few_wide_inputs_give_the_same_scores_in_less_memory():
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 3
    inputs = rng.normal(size=(20, 40)) + rng.normal(size=(3, 40))[labels]
    in_span = fit_discriminant(inputs, labels, label_count=4, shrinkage=0.2)
    # Asking for directions takes the plain form.
    plain = fit_discriminant(inputs, labels, label_count=4, shrinkage=0.2, direction_count=1)
    others = rng.normal(size=(5, 40))
    np.testing.assert_allclose(in_span.scores(others), plain.scores(others), rtol=1e-4, atol=1e-3)


def test_discriminant_refuses_one_label_and_never_answers_an_absent_one():
    inputs = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match="two labels"):
        fit_discriminant(inputs, np.zeros(20, int), label_count=2, shrinkage=0.1)
    fitted = fit_discriminant(inputs, np.arange(20) % 2 * 2, label_count=3, shrinkage=0.1)
    assert not (fitted.scores(inputs).argmax(1) == 1).any()


def test_soft_labels_are_unit_vectors_of_probabilities():
    soft = soft_labels(np.array([[0.0, 4.0], [1000.0, -1000.0]]), 4.0)
    np.testing.assert_allclose((soft**2).sum(1), 1, rtol=1e-6)
    assert soft[0, 1] ** 2 / soft[0, 0] ** 2 == pytest.approx(np.e, rel=1e-5)
    with pytest.raises(ValueError, match="positive"):
        soft_labels(np.zeros((1, 2)), 0)


def test_model_beats_the_mean_in_hospitals_it_never_saw(archive, model):
    statistics = bag_statistics(archive.features, archive.offsets)
    embedded = embed_archive(model, archive, statistics=statistics)
    rivals = [mean_pooling(archive), Rival("default", "", default_similarity(model, embedded))]
    found = slide_to_slide(rivals, archive, archive.positions("val"), exclude_hospital=True)
    assert found["default"].summary()["top-1"] > found["mean"].summary()["top-1"] + 0.2
    assert found["default"].summary()["mAP"] > found["mean"].summary()["mAP"] + 0.2


def test_embedding_is_free_of_the_order_and_of_unit_length(archive, model):
    bag = archive.bag(5)
    coords = np.stack([np.arange(len(bag)), np.arange(len(bag)) * 3], 1)
    order = np.random.default_rng(0).permutation(len(bag))
    one, other = model.embed(bag, coords), model.embed(bag[order], coords[order])
    np.testing.assert_array_equal(one.slide_vector, other.slide_vector)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    assert one.places == other.places
    assert np.linalg.norm(one.slide_vector) == pytest.approx(1, abs=1e-5)
    without = model.embed(bag), model.embed(bag[order])
    np.testing.assert_array_equal(without[0].tokens, without[1].tokens)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_slides_embed(model, count):
    made = model.embed(np.random.default_rng(1).normal(size=(count, 12)).astype(np.float32))
    assert 1 <= len(made.tokens) <= count
    assert made.slide_vector.shape == (model.dimension,)


def test_wrong_features_are_refused(model):
    with pytest.raises(ValueError, match="takes"):
        model.embed(np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="finite"):
        model.embed(np.full((3, 12), np.inf, np.float32))


def test_comparison_is_symmetric_and_its_parts_add_up(archive, model):
    one, other = model.embed(archive.bag(0)), model.embed(archive.bag(1))
    there, back = model.compare(one, other), model.compare(other, one)
    assert there.similarity == pytest.approx(back.similarity, abs=1e-5)
    parts = there.label_part + there.look_part + there.token_part
    assert there.similarity == pytest.approx(parts, abs=1e-5)
    assert sum(value for _, value in there.labels) == pytest.approx(there.label_part, abs=1e-5)
    assert there.cosines.shape == (len(one.tokens), len(other.tokens))
    assert model.compare(one, one).similarity == pytest.approx(1, abs=1e-4)


def test_text_finds_slides_of_its_diagnosis(archive, model):
    vectors = np.stack([model.embed(archive.bag(i)).slide_vector for i in range(len(archive))])
    text = model.embed_texts(["large atypical lymphocytes"])[0]
    nearest = np.argsort(-(vectors @ text))[:5]
    assert {archive.labels[i] for i in nearest} == {"lymphoma"}
    assert model.label_probabilities(text[None]).argmax() == 1


def test_a_text_without_known_words_is_an_error(archive, model):
    with pytest.raises(ValueError, match="no word"):
        model.embed_texts(["xylophone quagga"])
    wordless = fit_aligner(replace(archive, reports={}), archive.positions("train"), SETTINGS)
    with pytest.raises(NoTextSide):
        wordless.embed_texts(["lymphocytes"])


def test_model_survives_its_file(archive, model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_aligner(model, path)
    loaded = load_aligner(path)
    assert loaded.config == model.config
    one, other = model.embed(archive.bag(3)), loaded.embed(archive.bag(3))
    np.testing.assert_array_equal(one.slide_vector, other.slide_vector)
    text = "diffuse sheets of large atypical lymphocytes"
    np.testing.assert_allclose(model.embed_texts([text]), loaded.embed_texts([text]), atol=2e-3)


def test_damaged_or_foreign_files_are_named_errors(model, tmp_path):
    with pytest.raises(ModelMissing):
        load_aligner(tmp_path / "absent.safetensors")
    path = tmp_path / "model.safetensors"
    save_aligner(model, path)
    arrays = load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelCorrupt):
        load_aligner(path)
    foreign = tmp_path / "foreign.safetensors"
    save_file(arrays, foreign)
    with pytest.raises(ModelCorrupt):
        load_aligner(foreign)
    short = dict(arrays)
    short["patch.directions"] = short["patch.directions"][:-1].copy()
    metadata = {"format": "pathsearch-aligner-1", "config": model.config.to_json()}
    save_file(short, foreign, metadata=metadata)
    with pytest.raises(ModelCorrupt, match="do not fit"):
        load_aligner(foreign)


def test_words_are_hashed_and_rare_or_common_ones_left_out():
    texts = ["common alpha"] * 3 + ["common beta"] * 3 + ["common unique"]
    words = fit_words(texts, WordConfig(bits=12, first_words=0, min_reports=2, max_share=0.9))
    (alpha,) = hashed_words("alpha", 12)
    (unique,) = hashed_words("unique", 12)
    (common,) = hashed_words("common", 12)
    assert words.idf[0, alpha] > 0
    assert words.idf[0, unique] == 0
    assert words.idf[0, common] == 0
    assert words.encode(["alpha beta"]).power(2).sum() == pytest.approx(1)
    assert hashed_words("Ca2+ of a b the THE", 12) == hashed_words("the the", 12)


def test_ridge_equals_its_primal_form():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["alpha", "beta", "gamma", "delta"], 5)) for _ in range(30)]
    config = WordConfig(bits=6, first_words=2, min_reports=1, max_share=1.0)
    inputs = fit_words(texts, config).encode(texts)
    targets, weights = rng.normal(size=(30, 2)), rng.random(30) + 0.5
    made = fit_ridge(inputs, targets, penalty=0.7, weights=weights)
    bias = weights @ targets / weights.sum()
    x = inputs.toarray()
    gram = (x * weights[:, None]).T @ x + 0.7 * np.eye(x.shape[1])
    expected = np.linalg.solve(gram, (x * weights[:, None]).T @ (targets - bias))
    np.testing.assert_allclose(made.weight, expected, atol=1e-5)
    np.testing.assert_allclose(made.predict(inputs), x @ expected + bias, atol=1e-5)
    totals = np.bincount([0, 0, 1], balanced_weights(np.array([0, 0, 1])))
    assert totals[0] == pytest.approx(totals[1])


def test_archive_files_round_trip_and_contradictions_are_named(archive, tmp_path):
    read = read_archive(write_archive(archive, tmp_path))
    assert read.labels == archive.labels
    assert read.reports == archive.reports
    np.testing.assert_array_equal(read.features, archive.features)
    with pytest.raises(ArchiveInvalid, match="split"):
        read.positions("test")
    with pytest.raises(ArchiveInvalid, match="no patch"):
        replace(archive, offsets=np.r_[0, 0, archive.offsets[2:]])
    with pytest.raises(ArchiveInvalid, match="twice"):
        replace(archive, slide_ids=("s1", *archive.slide_ids[1:]))
    (tmp_path / "slides.csv").unlink()
    with pytest.raises(ArchiveInvalid, match="cannot be read"):
        read_archive(tmp_path)


def test_a_setting_must_be_clearly_better_to_replace_the_default():
    def choice(value, settings):
        return Choice(settings, value, {})

    usual, other = {"temperature": 3.0}, {"temperature": 6.0}
    assert settled([choice(0.605, other), choice(0.6, usual)], usual) == usual
    assert settled([choice(0.62, other), choice(0.6, usual)], usual) == other
    assert settled([choice(0.62, other)], usual) == other


def test_folds_share_no_hospital_and_lose_no_slide(archive):
    parts = hospital_folds(archive.hospitals, 3)
    assert sorted(np.concatenate(parts)) == list(range(len(archive)))
    owners = [{archive.hospitals[i] for i in part} for part in parts]
    assert not owners[0] & owners[1] and not owners[1] & owners[2]
    assert max(map(len, parts)) - min(map(len, parts)) <= 12
