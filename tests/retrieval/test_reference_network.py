"""The reference network against a straightforward re-computation in NumPy, in float64."""

import math

import numpy as np
import pytest
import torch

from retrieval.engine.aggregator import (
    GatedAttention,
    NystromLayer,
    PyramidPositions,
    ReferenceAggregator,
    ReferenceAligner,
    ReferenceConfig,
    token_diversity_loss,
)
from retrieval.engine.errors import ModelCorrupt, ModelMissing
from retrieval.engine.evaluation import effective_rank
from retrieval.engine.reference_weights import load_reference, released_state

CONFIG = ReferenceConfig(input_dim=6, dim=16, token_count=3, heads=4, hidden=5)
COUNTS = [1, 2, 3, 17]


def _filled(module, seed=0):
    """Give every tensor of *module* a value that matters, so that none can be left out."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point() and tensor.ndim:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.4)
    return module.eval()


def _arrays(module):
    return {name: value.numpy().astype(np.float64) for name, value in module.state_dict().items()}


def _softmax(x):
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _layer_norm(x, w, prefix):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[prefix + "weight"] + w[prefix + "bias"]


def _pseudo_inverse(matrices, steps=6):
    columns, rows = np.abs(matrices).sum(-1).max(), np.abs(matrices).sum(-2).max()
    inverse = matrices.transpose(0, 2, 1) / (columns * rows)
    one = np.eye(matrices.shape[-1])
    for _ in range(steps):
        product = matrices @ inverse
        inner = 15 * one - product @ (7 * one - product)
        inverse = 0.25 * inverse @ (13 * one - product @ inner)
    return inverse


def _attention(x, w, prefix, heads):
    """Return the Nystrom attention of tokens (T, D)."""
    count, dim = x.shape
    landmarks, width = dim // 2, dim // heads
    missing = -count % landmarks
    x = np.concatenate([np.zeros((missing, dim)), x])
    qkv = x @ w[prefix + "to_qkv.weight"].T
    q, k, v = (part.reshape(-1, heads, width).transpose(1, 0, 2) for part in np.split(qkv, 3, 1))
    q = q * width**-0.5
    size = len(x) // landmarks
    q_means = q.reshape(heads, landmarks, size, width).mean(2)
    k_means = k.reshape(heads, landmarks, size, width).mean(2)
    first = _softmax(q @ k_means.transpose(0, 2, 1))
    middle = _softmax(q_means @ k_means.transpose(0, 2, 1))
    last = _softmax(q_means @ k.transpose(0, 2, 1))
    out = first @ _pseudo_inverse(middle) @ (last @ v)
    kernel = w[prefix + "res_conv.weight"][:, 0, :, 0]
    reach = kernel.shape[1] // 2
    padded = np.pad(v, ((0, 0), (reach, reach), (0, 0)))
    for offset in range(kernel.shape[1]):
        out = out + kernel[:, offset, None, None] * padded[:, offset : offset + len(x)]
    merged = out.transpose(1, 0, 2).reshape(len(x), dim)
    return (merged @ w[prefix + "to_out.0.weight"].T + w[prefix + "to_out.0.bias"])[missing:]


def _layer(x, w, prefix, heads):
    normed = _layer_norm(x, w, prefix + "norm.")
    return x + _attention(normed, w, prefix + "attention.", heads)


def _positions(x, w, prefix, side):
    square = x[1:].reshape(side, side, -1)
    out = square.copy()
    for name, size in (("conv7", 7), ("conv5", 5), ("conv3", 3)):
        kernel = w[f"{prefix}{name}.weight"][:, 0]
        padded = np.pad(square, ((size // 2,) * 2, (size // 2,) * 2, (0, 0)))
        for i in range(size):
            for j in range(size):
                out = out + kernel[:, i, j] * padded[i : i + side, j : j + side]
        out = out + w[f"{prefix}{name}.bias"]
    return np.concatenate([x[:1], out.reshape(side * side, -1)])


def _gated(x, w, prefix):
    tanh = np.tanh(x @ w[prefix + "tanh.weight"].T + w[prefix + "tanh.bias"])
    gate = 1 / (1 + np.exp(-(x @ w[prefix + "gate.weight"].T + w[prefix + "gate.bias"])))
    return _softmax(((tanh * gate) @ w[prefix + "score.weight"].T + w[prefix + "score.bias"])[:, 0])


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _network(features, w, config):
    x = np.maximum(features @ w["project.weight"].T + w["project.bias"], 0)
    count = len(x)
    side = math.ceil(math.sqrt(count))
    x = np.concatenate([w["cls_token"][0], x, x[: side * side - count]])
    x = _layer(x, w, "layer1.", config.heads)
    x = _positions(x, w, "positions.", side)
    x = _layer(x, w, "layer2.", config.heads)[1 : count + 1]
    x = x @ w["pool.reduce.weight"].T
    x = (x - w["pool.norm.running_mean"]) / np.sqrt(w["pool.norm.running_var"] + 1e-5)
    x = np.maximum(x * w["pool.norm.weight"] + w["pool.norm.bias"], 0)
    tokens = np.stack(
        [_gated(x, w, f"pool.heads.{head}.") @ x for head in range(config.token_count)]
    )
    return _unit(tokens), _unit(_gated(tokens, w, "pool.final.") @ tokens)


@pytest.mark.parametrize("count", COUNTS)
def test_nystrom_layer_equals_the_recomputation(count):
    layer = _filled(NystromLayer(CONFIG)).double()
    x = np.random.default_rng(count).normal(size=(count, CONFIG.dim))
    out = layer(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(out, _layer(x, _arrays(layer), "", CONFIG.heads), atol=1e-9)


@pytest.mark.parametrize("side", [1, 2, 5])
def test_positions_equal_the_recomputation(side):
    layer = _filled(PyramidPositions(CONFIG.dim)).double()
    x = np.random.default_rng(side).normal(size=(1 + side * side, CONFIG.dim))
    out = layer(torch.from_numpy(x)[None], side)[0].detach().numpy()
    np.testing.assert_allclose(out, _positions(x, _arrays(layer), "", side), atol=1e-9)


@pytest.mark.parametrize("count", COUNTS)
def test_gated_attention_equals_the_recomputation(count):
    layer = _filled(GatedAttention(CONFIG.dim, CONFIG.hidden)).double()
    x = np.random.default_rng(count).normal(size=(count, CONFIG.dim))
    out = layer(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(out, _gated(x, _arrays(layer), ""), atol=1e-12)
    assert out.sum() == pytest.approx(1)


@pytest.mark.parametrize("count", [*COUNTS, 20_000])
def test_network_in_float32_agrees_to_1e_4(count):
    network = _filled(ReferenceAggregator(CONFIG))
    x = np.random.default_rng(count).normal(size=(count, CONFIG.input_dim)).astype(np.float32)
    with torch.no_grad():
        made = network(torch.from_numpy(x)[None])
    tokens, embedding = _network(x.astype(np.float64), _arrays(network), CONFIG)
    np.testing.assert_allclose(made.tokens[0].numpy(), tokens, atol=1e-4)
    np.testing.assert_allclose(made.embedding[0].numpy(), embedding, atol=1e-4)
    assert made.attention.shape == (1, CONFIG.token_count, count)


def test_network_of_the_released_size_agrees_to_1e_4():
    config = ReferenceConfig()
    torch.manual_seed(0)
    network = ReferenceAggregator(config).eval()
    x = np.random.default_rng(0).normal(size=(17, 768)).astype(np.float32)
    with torch.no_grad():
        made = network(torch.from_numpy(x)[None])
    tokens, embedding = _network(x.astype(np.float64), _arrays(network), config)
    np.testing.assert_allclose(made.tokens[0].numpy(), tokens, atol=1e-4)
    np.testing.assert_allclose(made.embedding[0].numpy(), embedding, atol=1e-4)


def test_eval_is_deterministic_and_training_drops_out():
    network = _filled(ReferenceAggregator(CONFIG))
    x = torch.randn(1, 17, CONFIG.input_dim)
    with torch.no_grad():
        assert torch.equal(network(x).embedding, network(x).embedding)
        network.train()
        assert not torch.equal(network(x).embedding, network(x).embedding)


@pytest.mark.parametrize("shape", [(17, 6), (1, 0, 6), (1, 4, 5)])
def test_wrong_bags_are_refused(shape):
    with pytest.raises(ValueError, match=r"bags must be|features have"):
        ReferenceAggregator(CONFIG)(torch.zeros(shape))


def _released(prefix=""):
    model = _filled(ReferenceAligner(CONFIG, text_dim=7))
    return model, {prefix + name: value for name, value in released_state(model).items()}


def test_released_names_are_the_documented_ones():
    _, state = _released()
    assert state["visual.proj.0.weight"].shape == (16, 6)
    assert state["visual.cls_token"].shape == (1, 1, 16)
    assert state["visual.trans_layer2.attn.to_qkv.weight"].shape == (48, 16)
    assert state["visual.trans_layer1.attn.to_out.0.bias"].shape == (16,)
    assert state["visual.trans_layer1.attn.res_conv.weight"].shape == (4, 1, 33, 1)
    sizes = {"proj": 7, "proj1": 5, "proj2": 3}
    for name, size in sizes.items():
        assert state[f"visual.pos_layer.{name}.weight"].shape == (16, 1, size, size)
    assert state["visual.abmil.dim_reduction.fc1.weight"].shape == (16, 16)
    assert state["visual.abmil.dim_reduction.norm_act.1.num_batches_tracked"].shape == ()
    for head in ("attention.0", "attention.2", "attention_2"):
        assert state[f"visual.abmil.{head}.attention_V.0.weight"].shape == (5, 16)
        assert state[f"visual.abmil.{head}.attention_U.0.bias"].shape == (5,)
        assert state[f"visual.abmil.{head}.attention_weights.weight"].shape == (1, 5)
    assert state["text_projection.weight"].shape == (16, 7)
    assert state["logit_scale"].shape == ()
    per_head = 6
    assert len(state) == 2 + 1 + 2 * 6 + 6 + 1 + 5 + per_head * 4 + 2 + 1


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [False, True])
def test_weights_load_under_every_wrapping(tmp_path, prefix, nested):
    model, state = _released(prefix)
    state[prefix + "text_model.layer.weight"] = torch.ones(2)
    path = tmp_path / "weights.pt"
    torch.save({"model": state, "epoch": 3} if nested else state, path)
    loaded = load_reference(path)
    x = torch.randn(1, 9, CONFIG.input_dim)
    with torch.no_grad():
        assert torch.equal(loaded.model.visual(x).tokens, model.visual(x).tokens)
    assert set(loaded.text_tower) == {"layer.weight"}
    assert not loaded.model.training


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.pop("visual.abmil.attention.1.attention_U.0.bias"), "missing_tensor"),
        (lambda s: s.pop("visual.proj.0.weight"), "missing_tensor"),
        (lambda s: s.pop("logit_scale"), "missing_tensor"),
        (lambda s: s.update({"visual.extra": torch.ones(1)}), "unexpected_tensor"),
        (lambda s: s.update({"visual.cls_token": torch.ones(1, 1, 3)}), "misshaped_tensor"),
        (lambda s: s.update({"text_projection.bias": torch.ones(3)}), "misshaped_tensor"),
        (lambda s: s.update({"visual.proj.0.weight": torch.ones(3)}), "misshaped_tensor"),
    ],
)
def test_wrong_weights_are_a_named_error(change, code):
    _, state = _released()
    change(state)
    with pytest.raises(ModelCorrupt) as caught:
        load_reference(state)
    assert caught.value.code == code


def test_what_is_no_tensor_is_never_unpickled(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"model": ReferenceConfig()}, path)
    with pytest.raises(ModelCorrupt):
        load_reference(path)
    with pytest.raises(ModelMissing):
        load_reference(tmp_path / "absent.pt")


def test_diversity_and_effective_rank_tell_collapse():
    same = torch.ones(1, 4, 8) / math.sqrt(8)
    distinct = torch.eye(8)[None, :4]
    assert token_diversity_loss(same).item() == pytest.approx(1)
    assert token_diversity_loss(distinct).item() == pytest.approx(0)
    assert effective_rank(same[0]) == pytest.approx(1)
    assert effective_rank(distinct[0]) == pytest.approx(4)
