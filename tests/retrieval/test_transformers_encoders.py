"""The catalogue's entries that transformers builds, with tiny random models of the same classes."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizerFast,
    Dinov2Config,
    Dinov2Model,
)

from retrieval.engine import encoders
from retrieval.engine.encoders import files
from retrieval.engine.errors import ModelCorrupt, ModelMissing
from tests.retrieval.tiny_models import (
    BERT,
    load,
    normalised,
    save,
    scrambled,
    tiny,
    write_bert_tokenizer,
    write_json,
    write_sentences,
)

TEXTS = ["tumour of the lung", "colon", "the the tumour of the colon of the lung"]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_folder", tmp_path / "models")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "models"


@pytest.fixture
def patches():
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)


def write_dinov2(folder, **changes):
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Dinov2Config(**sizes | changes)
    network = scrambled(Dinov2Model(config))
    save(network.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", config.to_dict())
    return network


def test_phikon_gives_the_class_token(models, monkeypatch, patches):
    network = write_dinov2(models / "phikon-v2")
    spec = tiny(monkeypatch, "image", "phikon-v2", dimension=16, patch_px=28)
    with torch.no_grad():
        expected = network(pixel_values=normalised(spec, patches)).last_hidden_state[:, 0]
    assert load(spec).encode(patches) == pytest.approx(expected.numpy(), abs=1e-4)


def test_midnight_gives_the_class_token_and_the_patches_mean(models, monkeypatch, patches):
    network = write_dinov2(models / "midnight", use_swiglu_ffn=True)
    spec = tiny(monkeypatch, "image", "midnight", dimension=32, patch_px=28)
    assert spec.mean == (127.5, 127.5, 127.5)
    with torch.no_grad():
        tokens = network(pixel_values=normalised(spec, patches)).last_hidden_state
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)
    assert load(spec).encode(patches) == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_network_of_another_width_is_named(models, monkeypatch, patches):
    write_dinov2(models / "phikon-v2")
    spec = tiny(monkeypatch, "image", "phikon-v2", patch_px=28)
    with pytest.raises(ModelCorrupt, match="16 values; 1024 are expected"):
        load(spec).encode(patches)


@pytest.mark.parametrize("spoil", ["missing", "surplus", "shape"])
def test_weights_that_do_not_fit_are_named_never_random(models, monkeypatch, spoil):
    network = write_dinov2(models / "phikon-v2")
    state = network.state_dict()
    if spoil == "missing":
        del state["layernorm.weight"]
    elif spoil == "surplus":
        state["head.weight"] = torch.zeros(2)
    else:
        state["layernorm.weight"] = torch.zeros(3)
    save(state, models / "phikon-v2" / "model.safetensors")
    spec = tiny(monkeypatch, "image", "phikon-v2", dimension=16, patch_px=28)
    with pytest.raises(ModelCorrupt, match="do not fit"):
        load(spec)


def write_clip(folder):
    tower = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        vocabulary[letter] = len(vocabulary)
        vocabulary[f"{letter}</w>"] = len(vocabulary)
    size = len(vocabulary)
    config = CLIPConfig(
        text_config=tower
        | {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 77},
        vision_config=tower | {"image_size": 28, "patch_size": 14},
        projection_dim=8,
    )
    network = scrambled(CLIPModel(config))
    state = network.state_dict()
    # What releases of older versions of the library hold too.
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save(state, folder / "pytorch_model.bin")
    write_json(folder / "config.json", config.to_dict())
    CLIPTokenizerFast(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return network


def test_plip_has_both_sides_in_one_space(models, monkeypatch, patches):
    network = write_clip(models / "plip")
    image = tiny(monkeypatch, "image", "plip", dimension=8, patch_px=28)
    text = tiny(monkeypatch, "text", "plip", dimension=8)
    with torch.no_grad():
        pooled = network.vision_model(pixel_values=normalised(image, patches)).pooler_output
        expected = network.visual_projection(pooled).numpy()
    assert load(image).encode(patches) == pytest.approx(expected, abs=1e-4)

    encoder = load(text)
    tokenizer = CLIPTokenizerFast.from_pretrained(models / "plip")
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = network.text_model(**tokens).pooler_output
        said = torch.nn.functional.normalize(network.text_projection(states), dim=1).numpy()
    assert encoder.encode(TEXTS) == pytest.approx(said, abs=1e-4)
    assert len({tuple(v) for v in encoder.encode(TEXTS).round(3).tolist()}) == 3
    long = "tumour " * 90
    assert encoder.encode([long]) == pytest.approx(encoder.encode([long + "lung"]), abs=1e-5)


def bert_tokens(folder, texts=TEXTS):
    from transformers import BertTokenizerFast

    return BertTokenizerFast.from_pretrained(folder)(texts, padding=True, return_tensors="pt")


def test_biomedclips_text_tower_needs_no_open_clip(models, monkeypatch):
    folder = models / "biomedclip"
    write_bert_tokenizer(folder)
    bert = scrambled(BertModel(BertConfig(**BERT), add_pooling_layer=False))
    hidden, out = torch.randn(12, 16), torch.randn(8, 12)
    state = {f"text.transformer.{k}": v for k, v in bert.state_dict().items()}
    state |= {"text.proj.0.weight": hidden, "text.proj.2.weight": out}
    # The image tower and old buffers are in the same file.
    state |= {"visual.trunk.cls_token": torch.zeros(1), "logit_scale": torch.zeros(())}
    state["text.transformer.embeddings.position_ids"] = torch.arange(40)[None]
    save(state, folder / "open_clip_pytorch_model.bin")
    spec = tiny(
        monkeypatch, "text", "biomedclip", dimension=8, max_tokens=20, options={"bert": BERT}
    )
    with torch.no_grad():
        first = bert(**bert_tokens(folder)).last_hidden_state[:, 0]
        expected = torch.nn.functional.gelu(first @ hidden.T) @ out.T
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    assert load(spec).encode(TEXTS) == pytest.approx(expected, abs=1e-4)


def test_keeps_text_side_needs_no_code_of_its_repository(models, monkeypatch):
    folder = models / "keep"
    write_bert_tokenizer(folder)
    bert = scrambled(BertModel(BertConfig(**BERT)))
    state = {f"text.{k}": v for k, v in bert.state_dict().items()}
    save(state | {"visual.cls_token": torch.zeros(1)}, folder / "model.safetensors")
    write_json(
        folder / "config.json",
        {"model_type": "keep", "auto_map": {"AutoModel": "evil.Keep"}, "text_config": BERT},
    )
    spec = tiny(monkeypatch, "text", "keep", dimension=16, max_tokens=20)
    with torch.no_grad():
        expected = bert(**bert_tokens(folder)).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    assert load(spec).encode(TEXTS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("kind", ["plain", "with a pooler", "masked language model"])
def test_any_sentence_encoder_of_a_folder_loads(models, mode, kind):
    folder = models / "our-words"
    prefix = "bert." if kind == "masked language model" else ""
    bert = write_sentences(folder, mode, prefix=prefix, pooler=kind == "with a pooler")
    spec = encoders.TEXT_ENCODERS["sentence:our-words"]
    assert (spec.dimension, spec.max_tokens) == (16, 24)
    tokens = bert_tokens(folder)
    with torch.no_grad():
        states = bert(**tokens).last_hidden_state
    weight = tokens["attention_mask"].unsqueeze(-1).float()
    expected = states[:, 0] if mode == "cls" else (states * weight).sum(1) / weight.sum(1)
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    assert load(spec).encode(TEXTS) == pytest.approx(expected, abs=1e-4)


def test_a_sentence_encoder_that_would_be_computed_wrongly_is_refused(models):
    write_sentences(models / "other")
    write_json(models / "other" / "1_Pooling" / "config.json", {"pooling_mode_max_tokens": True})
    with pytest.raises(ModelCorrupt) as error:
        load(encoders.TEXT_ENCODERS["sentence:other"])
    assert error.value.code == "model_unsupported"
    write_sentences(models / "dense")
    write_json(models / "dense" / "2_Dense" / "config.json", {})
    with pytest.raises(ModelCorrupt, match="2_Dense"):
        load(encoders.TEXT_ENCODERS["sentence:dense"])


@pytest.mark.parametrize("name", ["sentence:", "sentence:..", "sentence:../x", "sentence:none"])
def test_a_folder_that_is_none_is_named(models, name):
    with pytest.raises(ModelMissing, match="models folder"):
        encoders.TEXT_ENCODERS[name]


def test_an_unknown_kind_of_network_is_named(models):
    write_sentences(models / "odd")
    write_json(models / "odd" / "config.json", {"model_type": "odd", "hidden_size": 16})
    with pytest.raises(ModelCorrupt, match="odd"):
        load(encoders.TEXT_ENCODERS["sentence:odd"])


def test_code_of_an_unknown_network_is_refused_without_asking(models, monkeypatch, tmp_path):
    folder = models / "odd"
    write_sentences(folder)
    said = {"model_type": "odd", "hidden_size": 16, "auto_map": {"AutoConfig": "evil.Config"}}
    write_json(folder / "config.json", said)
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'written')!r}, 'w')\nfrom transformers import BertConfig as Config\n"
    )
    asked = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    with pytest.raises(ModelCorrupt, match="configuration"):
        load(encoders.TEXT_ENCODERS["sentence:odd"])
    assert not asked and not (tmp_path / "written").exists()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "phikon-v2"])
def test_bfloat16_gives_nearly_the_same_features(models, monkeypatch, name):
    spec = encoders.IMAGE_ENCODERS[name]
    if spec.files:
        write_dinov2(models / name)
        spec = tiny(monkeypatch, "image", name, dimension=16, patch_px=28)
        files.pin(spec)
    shape = (4, spec.patch_px, spec.patch_px, 3)
    patches = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    full = encoders.load_image_encoder(name, "cpu").encode(patches)
    half = encoders.load_image_encoder(name, "cpu", 0, "bfloat16").encode(patches)
    assert half.dtype == np.float32
    assert not np.array_equal(full, half), "it did compute in another type"
    assert cosines(full, half).min() > 0.998


def test_a_gpu_gives_nearly_the_same_features():
    if not torch.cuda.is_available():
        pytest.skip("no GPU: features of GPU and CPU are not compared")
    patches = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    one = encoders.load_image_encoder("efficientnet-lite0", "cpu").encode(patches)
    for precision in ("float32", "bfloat16", "float16"):
        other = encoders.load_image_encoder("efficientnet-lite0", "cuda", 0, precision)
        least = 0.99999 if precision == "float32" else 0.998
        assert cosines(one, other.encode(patches)).min() > least


def test_values_beyond_float16_are_computed_again(models, monkeypatch, patches, caplog):
    network = write_dinov2(models / "phikon-v2")
    with torch.no_grad():
        network.layernorm.weight.fill_(1.0)
        network.encoder.layer[0].mlp.fc1.weight.mul_(1e5)
    save(network.state_dict(), models / "phikon-v2" / "model.safetensors")
    spec = tiny(monkeypatch, "image", "phikon-v2", dimension=16, patch_px=28)
    full = load(spec).encode(patches)
    half = load(spec, 0, "float16").encode(patches)
    assert "computed again in float32" in caplog.text
    assert half == pytest.approx(full, abs=1e-3)


def test_where_compiling_fails_the_network_runs_without(models, monkeypatch, patches, caplog):
    def broken(network):
        def run(*inputs, **named):
            raise RuntimeError("no compiler")

        return run

    write_dinov2(models / "phikon-v2")
    spec = tiny(monkeypatch, "image", "phikon-v2", dimension=16, patch_px=28)
    plain = load(spec).encode(patches)
    monkeypatch.setattr(torch, "compile", broken)
    encoder = load(spec, 0, "auto", True)
    assert np.array_equal(encoder.encode(patches), plain)
    assert "running uncompiled" in caplog.text


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="bfloat16"):
        encoders.load_image_encoder("efficientnet-lite0", "cpu", 0, "int8")
