"""Releases of tiny random models, written as their authors' are, for the registry's own loaders.

Each `write_*` writes into a folder what a download would hold. `add` registers an entry of the
catalogue anew with tiny sizes: everything else of it, builder and file names too, stays.
"""

import dataclasses
import json
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from retrieval.engine import encoders
from retrieval.engine.encoders import IMAGE_ENCODERS, TEXT_ENCODERS, Registry
from retrieval.engine.encoders.files import find_weights, pin

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tumour", "lung", "colon", "of", "the"]

BERT = {
    "vocab_size": 12,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def tiny(monkeypatch, kind: str, name: str, **changes):
    """Return the catalogue's entry with other sizes, registered in its place, unpinned."""
    source = IMAGE_ENCODERS if kind == "image" else TEXT_ENCODERS
    spec = dataclasses.replace(source[name], **changes)
    spec = dataclasses.replace(spec, locate=partial(find_weights, spec.files))
    registry = Registry(kind)
    registry.register(spec)
    monkeypatch.setattr(
        encoders, "IMAGE_ENCODERS" if kind == "image" else "TEXT_ENCODERS", registry
    )
    return spec


def load(spec, *arguments, **named):
    """Pin what is there, and load it by the public door."""
    pin(spec)
    door = (
        encoders.load_image_encoder
        if isinstance(spec, encoders.ImageEncoderSpec)
        else encoders.load_text_encoder
    )
    return door(spec.name, "cpu", *arguments, **named)


def scrambled(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return the network in eval mode with every parameter random, none at its start value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network.eval()


def save(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors or as torch's pickle, by the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().clone().contiguous() for name, value in state.items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def write_json(path: Path, said: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said), encoding="utf-8")


def write_phikon(folder: Path, seed: int = 0) -> torch.nn.Module:
    """Write a tiny DINOv2 as Phikon v2 is released."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=28,
        patch_size=14,
    )
    network = scrambled(Dinov2Model(config), seed)
    save(network.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", config.to_dict())
    return network


def write_bert_tokenizer(folder: Path) -> None:
    """Write a BERT tokenizer over a few words."""
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)


def write_sentences(folder: Path, mode: str = "mean", *, prefix: str = "", pooler: bool = False):
    """Write a tiny BERT as sentence-transformers lays it out, and return it."""
    from transformers import BertConfig, BertModel

    write_bert_tokenizer(folder)
    config = BertConfig(**BERT)
    bert = scrambled(BertModel(config, add_pooling_layer=pooler))
    state = {f"{prefix}{k}": v for k, v in bert.state_dict().items()}
    if prefix:
        state["cls.predictions.bias"] = torch.zeros(12)
    save(state, folder / "model.safetensors")
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 24})
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 16, f"pooling_mode_{mode}_tokens": True}
        if mode == "mean"
        else {f"pooling_mode_{mode}_token": True, "pooling_mode_mean_tokens": False},
    )
    return bert


def normalised(spec, patches) -> torch.Tensor:
    """Return patches as the authors' transforms give them: (B, 3, P, P)."""
    images = torch.from_numpy(patches).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return (images - mean) / std
