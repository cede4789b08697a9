"""The default models, their indexes, and centres fitted to an archive."""

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from retrieval.engine.encoders import IMAGE_ENCODERS
from retrieval.engine.mosaic import prototypes
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex
from retrieval.services import centres, features, indexing
from retrieval.services.aggregation import model_centre
from retrieval.services.models import (
    DEFAULT_IMAGE_MODEL,
    DEFAULT_TEXT_MODEL,
    Modality,
    NoActiveModel,
    active_model,
    centre_asset,
    ensure_default_models,
)
from retrieval.services.switching import model_activate
from tests.factories import DepartmentFactory, make_slide_image
from tests.retrieval.fakes import ColourEncoder

pytestmark = pytest.mark.django_db
State = SlideIndex.State


def hnsw_indexes():
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'")
        return [row[0] for row in cursor.fetchall()]


@pytest.fixture
def image_model():
    EmbeddingModel.objects.all().delete()
    return ensure_default_models()[0]


def test_the_defaults_are_made_once_active_and_indexed():
    EmbeddingModel.objects.all().delete()
    with pytest.raises(NoActiveModel, match="ensure_models"):
        active_model(Modality.IMAGE)
    image, text = ensure_default_models()
    assert (image.name, text.name) == (DEFAULT_IMAGE_MODEL, DEFAULT_TEXT_MODEL)
    assert ensure_default_models() == (image, text)
    assert EmbeddingModel.objects.count() == 2
    assert active_model(Modality.IMAGE) == image
    assert active_model(Modality.TEXT) == text
    spec = IMAGE_ENCODERS[image.encoder]
    assert (image.dimension, image.patch_px, image.mpp) == (spec.dimension, 224, 0.5)
    definitions = hnsw_indexes()
    assert any("halfvec(1280)" in d and f"model_id = {image.pk}" in d for d in definitions)
    assert any("halfvec(384)" in d and f"model_id = {text.pk}" in d for d in definitions)


def test_a_chosen_model_stays_active_when_the_defaults_are_ensured(image_model):
    other = EmbeddingModel.objects.create(
        name="other", modality="image", encoder="x", aggregator="x", dimension=3
    )
    model_activate(model=other)
    ensure_default_models()
    assert active_model(Modality.IMAGE) == other


def test_the_command_says_what_is_active(capsys):
    EmbeddingModel.objects.all().delete()
    call_command("ensure_models")
    assert f"{DEFAULT_IMAGE_MODEL} (active)" in capsys.readouterr().out


def test_the_shipped_centre_is_the_models(image_model):
    centre = model_centre(image_model)
    assert centre.shape == (1280,)
    assert np.array_equal(centre, centre_asset())
    assert np.isfinite(centre).all()
    assert (centre >= 0).all(), "a mean of features after a ReLU"
    assert centre.max() > 0.1


def test_a_procedural_centre_is_the_mean_over_synthetic_patches(tmp_path):
    class Brightness(ColourEncoder):
        def encode(self, patches):
            return patches.reshape(len(patches), -1).mean(1, keepdims=True) * np.ones((1, 6))

    patches = np.concatenate(list(centres.procedural_patches(32, seeds=range(1))))
    assert patches.shape[1:] == (32, 32, 3)
    centre = centres.procedural_centre(Brightness(), seeds=range(1))
    assert centre == pytest.approx(np.full(6, patches.mean()), rel=1e-4)


def archive(model, count=12):
    """Index slides by hand: features whose mean is far from the shipped centre."""
    generator = np.random.default_rng(0)
    for number in range(count):
        slide_image = make_slide_image(DepartmentFactory(code="here"))
        values = generator.random((20 + number, 1280)).astype(np.float16) + 2
        coords = np.stack([np.arange(len(values)), np.zeros(len(values), int)], 1) * 224
        path = features.features_path(slide_image.pk, model.name)
        prepared = features.features_prepare(path, features=values, coords_l0=coords, size_l0=224)
        features.features_place(prepared, path)
        mosaic = prototypes(values, coords, 224, centre=model_centre(model))
        indexing.embedding_write(slide_image=slide_image, model=model, mosaic=mosaic)
        SlideIndex.objects.create(
            slide_image=slide_image,
            department=slide_image.department,
            model=model,
            state=State.INDEXED,
            patch_count=len(values),
            features_path=path,
        )
    # A test is one transaction: its deferred checks must be done before an index is made.
    connection.check_constraints()


def test_a_centre_fitted_to_the_archive_is_a_new_model_made_without_pixels(
    image_model, monkeypatch
):
    archive(image_model)
    monkeypatch.setattr(indexing, "open_slide", None)
    call_command("fit_centre", "--name", "site-v1")
    new = active_model(Modality.IMAGE)
    assert new.name == "site-v1"
    image_model.refresh_from_db()
    assert not image_model.is_active
    assert "12 slides" in new.description
    means = [
        features.features_read(i.features_path).features.mean(0, dtype=np.float64)
        for i in SlideIndex.objects.filter(model=image_model)
    ]
    assert model_centre(new) == pytest.approx(np.mean(means, axis=0), abs=1e-4)
    assert SlideEmbedding.objects.filter(model=new).count() == 12
    assert SlideIndex.objects.filter(model=new, state=State.INDEXED).count() == 12
    vectors = np.array(
        [list(e.vector) for e in SlideEmbedding.objects.filter(model=new).order_by("pk")]
    )
    old = np.array(
        [list(e.vector) for e in SlideEmbedding.objects.filter(model=image_model).order_by("pk")]
    )
    assert (old @ old.T).min() > 0.99, "off centre, all slides look alike"
    assert np.abs(vectors.mean(0)).max() < 0.1
    assert any(f"model_id = {new.pk}" in d for d in hnsw_indexes())


def test_a_small_archive_is_refused_and_changes_nothing(image_model):
    archive(image_model, count=3)
    with pytest.raises(CommandError, match=r"3 slides.*at least 10"):
        call_command("fit_centre", "--name", "site-v1")
    assert active_model(Modality.IMAGE) == image_model


def test_a_fit_that_breaks_half_way_leaves_the_old_model(image_model):
    archive(image_model)
    last = SlideIndex.objects.order_by("-created_at").first()
    real = centres.features_read
    read = []

    def breaks(path):
        read.append(path)
        if len(read) > 12 and path == last.features_path:
            raise features.FeaturesUnreadable("gone")
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(centres, "features_read", breaks)
        with pytest.raises(CommandError, match="gone"):
            call_command("fit_centre", "--name", "site-v1")
    assert active_model(Modality.IMAGE) == image_model
    assert not EmbeddingModel.objects.filter(name="site-v1").exists()
    assert SlideEmbedding.objects.count() == 12


def test_a_name_is_given_once(image_model):
    archive(image_model)
    with pytest.raises(CommandError, match="already"):
        call_command("fit_centre", "--name", image_model.name)
