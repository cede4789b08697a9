"""Encoders of a site: the commands that list, check and accept them, and models made of them."""

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from retrieval.engine import encoders
from retrieval.engine.encoders import files
from retrieval.models import EmbeddingModel, SlideIndex
from retrieval.services import indexing, query_encoding
from retrieval.services.models import DEFAULT_IMAGE_MODEL, ensure_default_models
from retrieval.services.switching import model_activate
from tests.factories import DepartmentFactory, make_slide_image
from tests.retrieval.fakes import PINK, ArraySlide, painted
from tests.retrieval.tiny_models import tiny, write_phikon, write_sentences

pytestmark = pytest.mark.django_db
State = SlideIndex.State


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_folder", tmp_path / "models")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(indexing.os, "setpriority", lambda *arguments: None)
    for cache in (indexing._encoder, query_encoding._image_encoder):
        cache.cache_clear()
    yield tmp_path / "models"
    for cache in (indexing._encoder, query_encoding._image_encoder):
        cache.cache_clear()


@pytest.fixture
def phikon(models, monkeypatch):
    """Tiny weights of Phikon v2 in the models folder, known to every room of the site."""
    write_phikon(models / "phikon-v2")
    spec = tiny(monkeypatch, "image", "phikon-v2", dimension=16, patch_px=28)
    for room in ("retrieval.services.encoders", "retrieval.services.models"):
        monkeypatch.setattr(f"{room}.IMAGE_ENCODERS", encoders.IMAGE_ENCODERS)
    monkeypatch.setattr(
        "retrieval.management.commands.encoders.IMAGE_ENCODERS", encoders.IMAGE_ENCODERS
    )
    return spec


def test_the_list_says_of_each_whether_it_can_be_used(phikon, capsys):
    call_command("encoders", "list")
    lines = capsys.readouterr().out.splitlines()
    own = next(line for line in lines if "phikon-v2" in line)
    assert "  not accepted  " in own
    assert "non-commercial" in own
    assert any("all-minilm-l6-v2" in line and "comes along" in line for line in lines)
    call_command("encoders", "pin", "phikon-v2")
    capsys.readouterr()
    call_command("encoders", "list")
    assert "  accepted  " in next(
        x for x in capsys.readouterr().out.splitlines() if "phikon-v2" in x
    )


def test_pinning_prints_what_was_accepted_and_check_tries_it(phikon, models, capsys):
    with pytest.raises(CommandError, match="1 cannot be used"):
        call_command("encoders", "check", "phikon-v2")
    assert "model_unpinned" in capsys.readouterr().out
    call_command("encoders", "pin", "phikon-v2")
    said = capsys.readouterr().out
    assert files.sha256_of(models / "phikon-v2" / "model.safetensors") in said
    assert "Owkin" in said
    call_command("encoders", "check", "phikon-v2")
    assert "image phikon-v2: ready, 16 values" in capsys.readouterr().out


def test_pinning_what_is_not_there_or_not_expected_is_refused(phikon):
    with pytest.raises(CommandError, match="no encoder 'nobody'"):
        call_command("encoders", "pin", "nobody")
    with pytest.raises(CommandError, match="not on this machine"):
        call_command("encoders", "pin", "plip")
    with pytest.raises(CommandError, match="not the one expected"):
        call_command("encoders", "pin", "phikon-v2", "--sha256", "0" * 64)


def test_a_model_is_made_of_accepted_files_only(phikon):
    with pytest.raises(CommandError, match="encoders pin phikon-v2"):
        call_command("add_model", "phikon-v2")
    call_command("encoders", "pin", "phikon-v2")
    call_command("add_model", "phikon-v2")
    model = EmbeddingModel.objects.get(name="phikon-v2-prototypes-v1")
    assert not model.is_active
    assert (model.encoder, model.dimension, model.patch_px) == ("phikon-v2", 16, 28)
    assert model.weights_sha256 == files.read_pins()["phikon-v2"].weights_sha256
    assert "non-commercial" in model.description
    with pytest.raises(CommandError, match="already"):
        call_command("add_model", "phikon-v2")
    with pytest.raises(CommandError, match="slug"):
        call_command("add_model", "phikon-v2", "--name", "no slug!")


def test_a_centre_belongs_to_the_models_own_features(phikon, tmp_path):
    call_command("encoders", "pin", "phikon-v2")
    call_command("add_model", "phikon-v2", "--centre", "procedural", "--seeds", "1")
    model = EmbeddingModel.objects.get(name="phikon-v2-prototypes-v1")
    centre = np.frombuffer(bytes(model.centre), "<f4")
    assert centre.shape == (16,)
    assert np.isfinite(centre).all()
    assert np.abs(centre).max() > 0
    with pytest.raises(CommandError, match="holds no centre"):
        call_command("add_model", "phikon-v2", "--name", "x", "--centre", str(tmp_path / "none"))
    from retrieval.services.models import CENTRE_ASSET

    with pytest.raises(CommandError, match="1280 values"):
        call_command("add_model", "phikon-v2", "--name", "x", "--centre", str(CENTRE_ASSET))


def index_one(monkeypatch):
    slide_image = make_slide_image(DepartmentFactory(code="here"))
    rgb = painted(336, 336, (0, 0, 336, 336, PINK))
    monkeypatch.setattr(indexing, "open_slide", lambda path, mpp=None: ArraySlide(rgb, mpp=0.5))
    row = indexing.index_ensure(slide_image=slide_image)
    indexing.index_run(row.pk)
    row.refresh_from_db()
    return row


def made(models):
    call_command("encoders", "pin", "phikon-v2")
    call_command("add_model", "phikon-v2")
    model = EmbeddingModel.objects.get(name="phikon-v2-prototypes-v1")
    model_activate(model=model, force=True)
    return model


def test_slides_and_queries_are_encoded_by_the_chosen_encoder(phikon, models, monkeypatch):
    model = made(models)
    row = index_one(monkeypatch)
    assert row.state == State.INDEXED, row.reason
    assert row.patch_count > 100
    embedding = row.slide_image.embeddings.get(model=model)
    assert len(list(embedding.vector)) == 16
    patches = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), np.uint8)
    assert query_encoding.encode_patches(model, patches).shape == (2, 16)


def test_other_weights_never_mix_with_the_vectors_of_a_model(phikon, models, monkeypatch):
    model = made(models)
    write_phikon(models / "phikon-v2", seed=1)
    with pytest.raises(CommandError, match="phikon-v2-prototypes-v1"):
        call_command("encoders", "pin", "phikon-v2", "--replace")
    # A trained model's own sentence encoder counts as much.
    EmbeddingModel.objects.filter(pk=model.pk).update(encoder="fake", text_encoder="phikon-v2")
    with pytest.raises(CommandError, match="phikon-v2-prototypes-v1"):
        call_command("encoders", "pin", "phikon-v2", "--replace")
    EmbeddingModel.objects.filter(pk=model.pk).update(encoder="phikon-v2", text_encoder="")
    # Past the command, by hand: the recipe still tells.
    files.pin(phikon, replace=True)
    row = index_one(monkeypatch)
    assert (row.state, row.reason_code) == (State.FAILED, "model_changed")
    patches = np.zeros((1, 28, 28, 3), np.uint8)
    with pytest.raises(query_encoding.EncoderUnavailable, match="add_model"):
        query_encoding.encode_patches(model, patches)


def test_the_defaults_need_no_models_folder(models):
    EmbeddingModel.objects.all().delete()
    image, text = ensure_default_models()
    assert image.name == DEFAULT_IMAGE_MODEL
    assert query_encoding.encode_texts(text, ["lung"]).shape == (1, 384)
    assert not models.exists()


def test_reports_too_are_embedded_by_a_chosen_encoder(models):
    write_sentences(models / "our-words")
    call_command("encoders", "pin", "sentence:our-words")
    call_command("add_model", "sentence:our-words", "--text")
    model = EmbeddingModel.objects.get(name="sentence-our-words-text-v1")
    assert (model.modality, model.dimension, model.is_active) == ("text", 16, False)
    assert query_encoding.encode_texts(model, ["tumour of the lung"]).shape == (1, 16)
    with pytest.raises(CommandError, match="no text encoder 'uni'"):
        call_command("add_model", "uni", "--text")
