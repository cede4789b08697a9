"""The catalogue's entries that timm and open_clip build; `make test-encoders` has both."""

import numpy as np
import pytest

timm = pytest.importorskip("timm", reason="timm is not installed: make test-encoders")
open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")

import torch  # noqa: E402

from retrieval.engine.encoders import IMAGE_ENCODERS, files  # noqa: E402
from retrieval.engine.errors import ModelCorrupt  # noqa: E402
from retrieval.engine.loaders import timm_models  # noqa: E402
from tests.retrieval.tiny_models import (  # noqa: E402
    load,
    normalised,
    save,
    scrambled,
    tiny,
    write_json,
)

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
TIMM = [n for n, s in IMAGE_ENCODERS.items() if s.builder.endswith("timm_models:vit_patches")]


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_folder", tmp_path / "models")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "models"


def pictures(side, count=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def small(spec, side, **more):
    """Return the entry's options with a small trunk for pictures of `side`."""
    arguments = dict(spec.options["arguments"]) | SMALL | {"img_size": side}
    return {**spec.options, "arguments": arguments, **more}


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_release_of_timm_gives_what_its_network_gives(models, monkeypatch, name, file):
    entry = IMAGE_ENCODERS[name]
    side = 32 if entry.options["arguments"].get("patch_size", 14) == 16 else 28
    pooled = entry.options["pooling"]
    options = small(entry, side)
    network = scrambled(timm_models.build_trunk(options))
    save(network.state_dict(), models / name / file)
    spec = tiny(
        monkeypatch,
        "image",
        name,
        dimension=32 if pooled == "class" else 64,
        patch_px=side,
        options=options,
    )
    patches = pictures(side)
    with torch.no_grad():
        if pooled == "class":
            expected = network(normalised(spec, patches))
        else:  # as Virchow2's model card: registers are 1 to 4
            tokens = network(normalised(spec, patches))
            expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=-1)
    assert load(spec).encode(patches) == pytest.approx(expected.numpy(), abs=1e-4)


# Millions of parameters that the authors state.
SIZES = {
    "uni": 303,
    "uni2-h": 681,
    "virchow2": 631,
    "h-optimus-0": 1135,
    "h-optimus-1": 1135,
    "gigapath": 1135,
}


@pytest.mark.parametrize("name", TIMM)
def test_the_entry_in_full_size_has_the_stated_size_and_width(name):
    spec = IMAGE_ENCODERS[name]
    with torch.device("meta"):
        trunk = timm_models.build_trunk(spec.options).eval()
        network = timm_models.PooledTrunk(trunk, spec.options["pooling"])
        vectors = network(torch.empty(2, 3, spec.patch_px, spec.patch_px))
    assert vectors.shape == (2, spec.dimension)
    millions = sum(parameter.numel() for parameter in trunk.parameters()) / 1e6
    assert millions == pytest.approx(SIZES[name], rel=0.01)


@pytest.mark.parametrize("name", ["conch-v1.5", "keep", "biomedclip", "conch", "conch-projected"])
def test_the_other_networks_in_full_size_have_the_stated_width(name):
    from retrieval.engine.loaders import open_clip_models

    spec = IMAGE_ENCODERS[name]
    kind = {
        "conch-v1.5": timm_models.Conch15Vision,
        "keep": timm_models.KeepVision,
        "biomedclip": timm_models.BiomedClipVision,
    }.get(name, open_clip_models.ConchVision)
    with torch.device("meta"):
        network = kind(spec.options, spec.dimension).eval()
        vectors = network(torch.empty(1, 3, spec.patch_px, spec.patch_px))
    assert vectors.shape == (1, spec.dimension)


def test_a_key_too_many_is_named(models, monkeypatch):
    options = small(IMAGE_ENCODERS["uni"], 32)
    state = timm_models.build_trunk(options).state_dict() | {"head.weight": torch.zeros(2)}
    save(state, models / "uni" / "model.safetensors")
    spec = tiny(monkeypatch, "image", "uni", dimension=32, patch_px=32, options=options)
    with pytest.raises(ModelCorrupt, match=r"do not fit.*head\.weight"):
        load(spec)


def test_keeps_image_side_needs_no_code_of_its_repository(models, monkeypatch):
    options = small(IMAGE_ENCODERS["keep"], 32)
    trunk = scrambled(timm_models.build_trunk(options))
    one, two = torch.nn.Linear(32, 24), torch.nn.Linear(24, 24)
    state = {f"visual.{k}": v for k, v in trunk.state_dict().items()}
    state |= {f"visual_head.0.{k}": v for k, v in one.state_dict().items()}
    state |= {f"visual_head.2.{k}": v for k, v in two.state_dict().items()}
    state |= {"text.embeddings.x": torch.zeros(1), "logit_scale": torch.zeros(())}
    save(state, models / "keep" / "model.safetensors")
    write_json(models / "keep" / "config.json", {"model_type": "keep"})
    spec = tiny(monkeypatch, "image", "keep", dimension=24, patch_px=32, options=options)
    patches = pictures(32)
    with torch.no_grad():
        vectors = two(torch.nn.functional.gelu(one(trunk(normalised(spec, patches)))))
        expected = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    assert load(spec).encode(patches) == pytest.approx(expected, abs=1e-4)


def attended(query, keys, values, heads):
    """Return attention of one query (D,) over keys and values (T, D), head by head, float64."""
    out = []
    for q, k, v in zip(
        query.chunk(heads), keys.chunk(heads, 1), values.chunk(heads, 1), strict=True
    ):
        out.append((k @ q / len(q) ** 0.5).softmax(0) @ v)
    return torch.cat(out)


@pytest.mark.parametrize("file", ["conch_v1_5_pytorch_model.bin", "pytorch_model_vision.bin"])
def test_conch_1_5_pools_by_one_query(models, monkeypatch, file):
    entry = IMAGE_ENCODERS["conch-v1.5"]
    options = small(entry, 64, pool_heads=4)
    network = scrambled(timm_models.Conch15Vision(options, 16))
    save(network.state_dict(), models / "conch-v1.5" / file)
    spec = tiny(monkeypatch, "image", "conch-v1.5", dimension=16, patch_px=64, options=options)
    patches = pictures(64)
    state = {k: v.double() for k, v in network.state_dict().items()}
    pool = {k.removeprefix("attn_pool_contrast."): v for k, v in state.items()}
    norm = torch.nn.functional.layer_norm
    with torch.no_grad():
        tokens = network.trunk.forward_features(normalised(spec, patches)).double()
    expected = []
    for own in tokens:
        context = norm(own, (32,), pool["ln_k.weight"], pool["ln_k.bias"])
        query = norm(pool["query"][0], (16,), pool["ln_q.weight"], pool["ln_q.bias"])
        keys, values = (context @ pool["to_kv.weight"].T).chunk(2, dim=1)
        vector = attended(pool["to_q.weight"] @ query, keys, values, 4) @ pool["to_out.weight"].T
        expected.append(norm(vector, (16,), state["ln_contrast.weight"], state["ln_contrast.bias"]))
    assert load(spec).encode(patches) == pytest.approx(torch.stack(expected).numpy(), abs=1e-3)


def test_positions_of_another_grid_are_fitted(models, monkeypatch):
    options = small(IMAGE_ENCODERS["conch-v1.5"], 64, pool_heads=4)
    state = scrambled(timm_models.Conch15Vision(options, 16)).state_dict()
    state["trunk.pos_embed"] = torch.full((1, 1 + 4, 32), 0.25)
    save(state, models / "conch-v1.5" / "pytorch_model_vision.bin")
    spec = tiny(monkeypatch, "image", "conch-v1.5", dimension=16, patch_px=64, options=options)
    fitted = load(spec).network.trunk.pos_embed
    assert fitted.shape == (1, 1 + 16, 32)
    assert torch.allclose(fitted, torch.tensor(0.25)), "a constant stays constant"
    with pytest.raises(ModelCorrupt, match="no square"):
        timm_models.fitted_positions(spec, torch.zeros(1, 1 + 5, 32), 4)


@pytest.mark.parametrize("name", ["conch", "conch-projected"])
def test_conchs_image_side(models, monkeypatch, name):
    from retrieval.engine.loaders.open_clip_models import ConchVision

    options = small(IMAGE_ENCODERS[name], 64, pool_heads=4)
    network = scrambled(ConchVision(options, 16))
    state = {f"visual.{k}": v for k, v in network.state_dict().items()}
    state |= {"visual.attn_pool_caption.query": torch.zeros(2), "text.cls_emb": torch.zeros(2)}
    state |= {"text_decoder.x": torch.zeros(1), "logit_scale": torch.zeros(())}
    save(state, models / "conch" / "pytorch_model.bin")
    spec = tiny(monkeypatch, "image", name, dimension=16, patch_px=64, options=options)
    patches = pictures(64)
    pool = {k: v.double() for k, v in network.attn_pool_contrast.state_dict().items()}
    norm = torch.nn.functional.layer_norm
    with torch.no_grad():
        tokens = network.trunk.forward_features(normalised(spec, patches)).double()
    bias_q, bias_k, bias_v = pool["attn.in_proj_bias"].chunk(3)
    expected = []
    for own in tokens:
        context = norm(own, (32,), pool["ln_k.weight"], pool["ln_k.bias"])
        query = norm(pool["query"][0], (16,), pool["ln_q.weight"], pool["ln_q.bias"])
        vector = attended(
            pool["attn.q_proj_weight"] @ query + bias_q,
            context @ pool["attn.k_proj_weight"].T + bias_k,
            context @ pool["attn.v_proj_weight"].T + bias_v,
            4,
        )
        vector = pool["attn.out_proj.weight"] @ vector + pool["attn.out_proj.bias"]
        ln = network.ln_contrast.double()
        vector = norm(vector, (16,), ln.weight, ln.bias)
        expected.append(vector @ network.proj_contrast.double() if "-" in name else vector)
    out = load(spec).encode(patches)
    assert out == pytest.approx(torch.stack(expected).detach().numpy(), abs=1e-3)


WORDS = ["<pad>", "<start_of_text>", "<end_of_text>", "tumour", "lung", "colon", "of", "the", "a"]


def write_conch_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>",
        special_tokens=[("<start_of_text>", 1), ("<end_of_text>", 2)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def conch_text(state, ids, heads, layers):
    """Return CONCH's text vector of token numbers, written out in float64.

    After the description in its repository: class token last, causal, and from the class
    token the padding is hidden one place too far to the right.
    """
    norm = torch.nn.functional.layer_norm

    def layer_norm(x, name):
        weight = state[f"{name}.weight"]
        return norm(x, weight.shape, weight, state[f"{name}.bias"])

    x = torch.cat([state["token_embedding.weight"][ids], state["cls_emb"][None]])
    x = x + state["positional_embedding"][: len(x)]
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}"
        qkv = layer_norm(x, f"{name}.ln_1") @ state[f"{name}.attn.in_proj_weight"].T
        q, k, v = (qkv + state[f"{name}.attn.in_proj_bias"]).chunk(3, dim=1)
        rows = []
        for place in range(len(x)):
            seen = list(range(place + 1))
            if place == len(ids):
                seen = [0, *(j + 1 for j in range(len(ids)) if ids[j] != 0)]
            rows.append(attended(q[place], k[seen], v[seen], heads))
        out = torch.stack(rows) @ state[f"{name}.attn.out_proj.weight"].T
        x = x + out + state[f"{name}.attn.out_proj.bias"]
        hidden = layer_norm(x, f"{name}.ln_2") @ state[f"{name}.mlp.c_fc.weight"].T
        hidden = torch.nn.functional.gelu(hidden + state[f"{name}.mlp.c_fc.bias"])
        x = x + hidden @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
    return layer_norm(x[-1], "ln_final") @ state["text_projection"]


def test_conchs_text_side(models, monkeypatch):
    from retrieval.engine.loaders.open_clip_models import ConchText

    options = {"vocab_size": 9, "context_length": 12, "width": 16, "heads": 2, "layers": 2}
    network = scrambled(ConchText(options, 8))
    state = {f"text.{k}": v for k, v in network.state_dict().items()}
    save(state | {"visual.x": torch.zeros(1)}, models / "conch" / "pytorch_model.bin")
    write_conch_tokenizer(models / "conch")
    spec = tiny(monkeypatch, "text", "conch", dimension=8, max_tokens=11, options=options)
    texts = ["tumour of the lung", "colon", "the lung of the colon of the tumour of the lung a"]
    own = {k: v.double() for k, v in network.state_dict().items()}
    expected = []
    for text in texts:
        ids = [1, *[WORDS.index(word) for word in text.split()][:9], 2]
        ids += [0] * (11 - len(ids))
        expected.append(conch_text(own, torch.tensor(ids), heads=2, layers=2))
    said = torch.nn.functional.normalize(torch.stack(expected), dim=1).numpy()
    assert load(spec).encode(texts) == pytest.approx(said, abs=1e-4)


def test_quiltnet_has_both_sides_in_one_space(models, monkeypatch):
    from open_clip.model import CLIP

    words = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 8,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": words,
    }
    network = scrambled(CLIP(**config))
    folder = models / "quiltnet-b-32"
    save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    write_json(folder / "open_clip_config.json", {"model_cfg": config})
    image = tiny(monkeypatch, "image", "quiltnet-b-32", dimension=8, patch_px=32)
    text = tiny(monkeypatch, "text", "quiltnet-b-32", dimension=8)
    patches = pictures(32)
    texts = ["tumour of the lung", "colon"]
    with torch.no_grad():
        seen = network.encode_image(normalised(image, patches)).numpy()
        said = network.encode_text(open_clip.tokenize(texts), normalize=True).numpy()
    assert load(image).encode(patches) == pytest.approx(seen, abs=1e-4)
    assert load(text).encode(texts) == pytest.approx(said, abs=1e-4)


def test_a_config_that_asks_the_hub_is_refused(models, monkeypatch):
    folder = models / "quiltnet-b-32"
    save({"x": torch.zeros(1)}, folder / "open_clip_pytorch_model.bin")
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"hf_model_name": "someone/bert"}}
    write_json(folder / "open_clip_config.json", {"model_cfg": config})
    with pytest.raises(ModelCorrupt, match="plain CLIP"):
        load(tiny(monkeypatch, "image", "quiltnet-b-32"))


def test_biomedclips_image_side(models, monkeypatch):
    options = small(IMAGE_ENCODERS["biomedclip"], 32)
    trunk, head = scrambled(timm_models.build_trunk(options)), torch.randn(8, 32)
    state = {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items()}
    state |= {"visual.head.proj.weight": head, "text.proj.0.weight": torch.zeros(1)}
    save(state, models / "biomedclip" / "open_clip_pytorch_model.bin")
    spec = tiny(monkeypatch, "image", "biomedclip", dimension=8, patch_px=32, options=options)
    patches = pictures(32)
    with torch.no_grad():
        expected = (trunk(normalised(spec, patches)) @ head.T).numpy()
    assert load(spec).encode(patches) == pytest.approx(expected, abs=1e-4)


def test_bfloat16_gives_nearly_the_same_features(models, monkeypatch):
    options = small(IMAGE_ENCODERS["uni2-h"], 28)
    network = timm_models.build_trunk(options).eval()
    save(network.state_dict(), models / "uni2-h" / "model.safetensors")
    spec = tiny(monkeypatch, "image", "uni2-h", dimension=32, patch_px=28, options=options)
    assert spec.gpu_precision == "bfloat16"
    full = load(spec).encode(pictures(28))
    half = load(spec, 0, "bfloat16").encode(pictures(28))
    cosine = (full * half).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() > 0.998
