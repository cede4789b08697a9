"""Models that the site provides: found on the disk only, accepted once, refused when changed."""

import json
import socket

import pytest
import torch

from retrieval.engine.encoders import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    checked_weights,
    files,
    load_image_encoder,
    load_text_encoder,
    weights_digest,
)
from retrieval.engine.errors import ModelCorrupt, ModelMissing, ModelUnpinned
from tests.retrieval.tiny_models import load, save, tiny, write_json, write_phikon

SITE = [s for r in (IMAGE_ENCODERS, TEXT_ENCODERS) for s in r.values() if s.files]
NAMES = [f"{type(s).__name__}-{s.name}" for s in SITE]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """The models folder, with no hub cache beside it and no network."""
    monkeypatch.setattr(files, "_folder", tmp_path / "models")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*arguments):
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "models"


@pytest.fixture
def phikon(models, monkeypatch):
    write_phikon(models / "phikon-v2")
    return tiny(monkeypatch, "image", "phikon-v2", dimension=16, patch_px=28)


@pytest.mark.parametrize("spec", SITE, ids=NAMES)
def test_a_missing_model_is_named_with_where_to_get_it_and_where_to_put_it(spec):
    door = load_image_encoder if spec in IMAGE_ENCODERS.values() else load_text_encoder
    with pytest.raises(ModelMissing) as error:
        door(spec.name)
    assert spec.files.folder in error.value.message
    assert spec.files.repositories[0] in error.value.message
    assert f"encoders pin {spec.name}" in error.value.message
    assert ("Ask for access" in error.value.message) == spec.gated
    assert ("timm and open_clip" in error.value.message) == (spec.library != "transformers")


@pytest.mark.parametrize("spec", SITE, ids=NAMES)
def test_entries_of_one_release_agree_on_its_files(spec):
    same = [other for other in SITE if other.files.folder == spec.files.folder]
    assert {other.files.weights for other in same} == {spec.files.weights}
    assert {other.files.repositories for other in same} == {spec.files.repositories}
    assert {other.gated for other in same} == {spec.gated}


@pytest.mark.parametrize("spec", SITE, ids=NAMES)
def test_what_shares_a_space_has_the_same_length(spec):
    if not spec.shares_space_with:
        return
    others = TEXT_ENCODERS if spec in IMAGE_ENCODERS.values() else IMAGE_ENCODERS
    other = others[spec.shares_space_with]
    assert other.dimension == spec.dimension
    assert other.shares_space_with == spec.name
    assert other.files.folder == spec.files.folder


def test_files_that_nobody_accepted_are_refused(phikon):
    with pytest.raises(ModelUnpinned, match="encoders pin phikon-v2"):
        load_image_encoder("phikon-v2", "cpu")


def test_accepted_files_load_and_the_pin_says_what_they_are(phikon, models):
    load(phikon)
    weights = models / "phikon-v2" / "model.safetensors"
    assert checked_weights(phikon) == weights
    assert weights_digest(phikon) == files.sha256_of(weights)
    said = json.loads((models / "pins.json").read_text())["models"]["phikon-v2"]
    assert set(said["files"]) == {"model.safetensors", "config.json"}


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_changed_file_is_refused_and_named(phikon, models, file):
    files.pin(phikon)
    path = models / "phikon-v2" / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelCorrupt, match=file):
        load_image_encoder("phikon-v2", "cpu")


def test_a_file_that_came_later_is_refused_since_a_library_may_read_it(phikon, models):
    files.pin(phikon)
    (models / "phikon-v2" / "added_tokens.json").write_text("{}")
    with pytest.raises(ModelCorrupt, match=r"added_tokens\.json"):
        load_image_encoder("phikon-v2", "cpu")


def test_other_weights_are_accepted_only_when_the_earlier_are_given_up(phikon, models):
    first = files.pin(phikon)
    assert files.pin(phikon) == first, "again the same: nothing to decide"
    write_phikon(models / "phikon-v2", seed=1)
    with pytest.raises(ModelCorrupt, match="--replace"):
        files.pin(phikon)
    second = files.pin(phikon, replace=True)
    assert second.weights_sha256 != first.weights_sha256


def test_the_published_hash_is_compared(phikon, models):
    right = files.sha256_of(models / "phikon-v2" / "model.safetensors")
    with pytest.raises(ModelCorrupt, match="not the one expected"):
        files.pin(phikon, expected_sha256="0" * 64)
    assert files.read_pins() == {}
    assert files.pin(phikon, expected_sha256=right.upper()).weights_sha256 == right


def test_what_comes_with_the_project_is_not_for_pinning():
    with pytest.raises(ModelCorrupt, match="pins it already"):
        files.pin(IMAGE_ENCODERS["efficientnet-lite0"])


@pytest.mark.parametrize("text", ["no json", '{"models": {"phikon-v2": {"files": {}}}}', "[]"])
def test_unreadable_pins_accept_nothing(phikon, models, text):
    (models / "pins.json").write_text(text)
    with pytest.raises(ModelUnpinned, match=r"pins\.json"):
        load_image_encoder("phikon-v2", "cpu")


def test_the_hubs_cache_is_the_second_place(phikon, models, tmp_path):
    repository = tmp_path / "hub" / "models--owkin--phikon-v2"
    snapshot = repository / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    (models / "phikon-v2").rename(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert files.located(phikon) == snapshot / "model.safetensors"
    load(phikon)
    write_phikon(models / "phikon-v2", seed=1)
    assert files.located(phikon).parent == models / "phikon-v2", "the site's own folder first"
    with pytest.raises(ModelCorrupt, match="not the ones that were pinned"):
        checked_weights(phikon)


def test_a_missing_companion_is_named(phikon, models):
    (models / "phikon-v2" / "config.json").unlink()
    with pytest.raises(ModelMissing, match=r"config\.json"):
        files.pin(phikon)


def test_a_pickle_with_more_than_tensors_is_not_executed(models, monkeypatch, tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("written").write_text, ("by a pickle",))

    spec = tiny(monkeypatch, "image", "plip")
    (models / "plip").mkdir(parents=True)
    torch.save({"x": Evil()}, models / "plip" / "pytorch_model.bin")
    write_json(models / "plip" / "config.json", {"model_type": "clip"})
    with pytest.raises(ModelCorrupt, match="cannot be read"):
        load(spec)
    assert not (tmp_path / "written").exists()


def test_code_beside_a_model_is_not_executed(phikon, models, tmp_path):
    folder = models / "phikon-v2"
    said = json.loads((folder / "config.json").read_text())
    said["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    write_json(folder / "config.json", said)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'written')!r}, 'w')")
    load(phikon)
    assert not (tmp_path / "written").exists()


def test_a_missing_package_is_named_with_the_environment_that_has_it(models, monkeypatch):
    spec = tiny(monkeypatch, "image", "uni")
    save({"x": torch.zeros(1)}, models / "uni" / "model.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    monkeypatch.delitem(
        __import__("sys").modules, "retrieval.engine.loaders.timm_models", raising=False
    )
    with pytest.raises(ModelMissing, match=r"not installed \(timm\).*docs/encoders\.md"):
        load(spec)
