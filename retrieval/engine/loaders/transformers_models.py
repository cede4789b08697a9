"""Networks that transformers builds: DINOv2, CLIP and BERT. All run in the default environment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    Dinov2Model,
)
from transformers.utils.logging import disable_progress_bar

from retrieval.engine.encoders.spec import EncoderSpec, ImageEncoderSpec, Runtime, TextEncoderSpec
from retrieval.engine.errors import ModelCorrupt
from retrieval.engine.loaders.weights import (
    State,
    fill,
    misfit,
    part,
    read_state,
    without_buffers,
)
from retrieval.engine.networks import MeanOfTokens, PatchNetwork, SentenceNetwork, tokenizer_of

# A bar for each model that is loaded says nothing to a server's log.
disable_progress_bar()


def _config(spec: EncoderSpec, kind: Any, folder: Path) -> Any:
    """Return a configuration from a local folder; code beside it is never executed."""
    try:
        # Without the refusal, transformers asks at the terminal whether to run the code.
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelCorrupt(
            f"The configuration of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error


def _tokenizer(spec: EncoderSpec, folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # The tokenizers library raises bare Exceptions.
        raise ModelCorrupt(
            f"The tokenizer of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error


def _filled(
    spec: EncoderSpec,
    kind: Any,
    config: Any,
    state: State,
    *,
    unused: tuple[str, ...] = (),
) -> Any:
    """Return a network with these tensors; transformers translates names of old releases.

    Parts that start with one of `unused` may lack or be one too many.
    """
    try:
        network, report = kind.from_pretrained(
            None, config=config, state_dict=without_buffers(state), output_loading_info=True
        )
    except (RuntimeError, ValueError) as error:
        raise misfit(spec, str(error)) from error
    wrong = {
        name: sorted(str(key) for key in keys if not str(key).startswith(unused or ("\0",)))
        for name, keys in report.items()
    }
    if any(wrong.values()):
        raise misfit(spec, json.dumps({name: keys for name, keys in wrong.items() if keys}))
    return network


class ClassToken(torch.nn.Module):
    """The class token of a vision transformer, or it and the mean of the patch tokens."""

    def __init__(self, network: torch.nn.Module, pooling: str) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.network(pixel_values=images).last_hidden_state
        if self.pooling == "class":
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=-1)


def dinov2_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return a DINOv2 network; its config.json gives the architecture."""
    config = _config(spec, Dinov2Model.config_class, weights.parent)
    network = _filled(spec, Dinov2Model, config, read_state(spec, weights))
    return PatchNetwork(spec, ClassToken(network, spec.options["pooling"]), runtime)


class _Field(torch.nn.Module):
    """One field of a network's output."""

    def __init__(self, network: torch.nn.Module, field: str) -> None:
        super().__init__()
        self.network, self.field = network, field

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        return getattr(self.network(*inputs, **named), self.field)


def _clip_tower(spec: EncoderSpec, folder: Path, tower: str) -> Any:
    config = _config(spec, CLIPConfig, folder)
    # The whole model's projection counts; a tower alone would take its own default.
    own = getattr(config, tower)
    own.projection_dim = config.projection_dim
    return own


def _side(state: State, tower: str, projection: str) -> State:
    return {k: v for k, v in state.items() if k.startswith((tower, projection))}


def clip_patches(spec: ImageEncoderSpec, weights: Path, runtime: Runtime) -> PatchNetwork:
    """Return the image side of a CLIP model, projected into the space it shares with texts."""
    config = _clip_tower(spec, weights.parent, "vision_config")
    state = _side(read_state(spec, weights), "vision_model.", "visual_projection.")
    network = _filled(spec, CLIPVisionModelWithProjection, config, state)
    return PatchNetwork(spec, _Field(network, "image_embeds"), runtime)


def clip_texts(spec: TextEncoderSpec, weights: Path, runtime: Runtime) -> SentenceNetwork:
    """Return the text side of a CLIP model."""
    config = _clip_tower(spec, weights.parent, "text_config")
    state = _side(read_state(spec, weights), "text_model.", "text_projection.")
    network = _filled(spec, CLIPTextModelWithProjection, config, state)
    tokenize = tokenizer_of(spec, _tokenizer(spec, weights.parent))
    return SentenceNetwork(spec, tokenize, _Field(network, "text_embeds"), runtime)


class _ProjectedClass(torch.nn.Module):
    """The class token of BERT through a projection of two layers, as open_clip's text tower."""

    def __init__(self, network: torch.nn.Module, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.transformer = network
        self.proj = torch.nn.Sequential(
            torch.nn.Linear(sizes[0], sizes[1], bias=False),
            torch.nn.GELU(),
            torch.nn.Linear(sizes[1], sizes[2], bias=False),
        )

    def forward(self, **tokens: torch.Tensor) -> torch.Tensor:
        return self.proj(self.transformer(**tokens).last_hidden_state[:, 0])


def biomedclip_texts(spec: TextEncoderSpec, weights: Path, runtime: Runtime) -> SentenceNetwork:
    """Return the text tower of a BiomedCLIP release, which open_clip saved.

    Its BERT is described by the entry's options: the release names a hub repository instead,
    which must not be asked.
    """
    config = BertConfig(**spec.options["bert"])
    width = config.hidden_size
    # open_clip's ``mlp`` projection: the hidden width is the mean of both ends.
    network = _ProjectedClass(
        BertModel(config, add_pooling_layer=False),
        (width, (width + spec.dimension) // 2, spec.dimension),
    )
    fill(spec, network, without_buffers(part(read_state(spec, weights), "text.")))
    tokenize = tokenizer_of(spec, _tokenizer(spec, weights.parent))
    return SentenceNetwork(spec, tokenize, network, runtime)


def keep_texts(spec: TextEncoderSpec, weights: Path, runtime: Runtime) -> SentenceNetwork:
    """Return KEEP's BERT: its pooled class token. The repository's own code is not needed."""
    said = _json(spec, weights.parent / "config.json").get("text_config")
    if not isinstance(said, dict):
        raise ModelCorrupt(f"config.json of {spec.name} has no text_config. {spec.remedy}")
    state = part(read_state(spec, weights), "text.")
    network = _filled(spec, BertModel, BertConfig(**said), state)
    tokenize = tokenizer_of(spec, _tokenizer(spec, weights.parent))
    return SentenceNetwork(spec, tokenize, _Field(network, "pooler_output"), runtime)


class _FirstToken(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **tokens: torch.Tensor) -> torch.Tensor:
        return self.network(**tokens).last_hidden_state[:, 0]


_MEAN, _CLASS = "pooling_mode_mean_tokens", "pooling_mode_cls_token"


def _json(spec: EncoderSpec, path: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelCorrupt(
            f"{path.name} of the encoder {spec.name} cannot be read. {spec.remedy}"
        ) from error


def sentence_folder(spec: TextEncoderSpec, weights: Path, runtime: Runtime) -> SentenceNetwork:
    """Return a sentence encoder in the layout of sentence-transformers.

    Pooling is the mean over the tokens, or the class token where 1_Pooling/config.json says so.

    Raises
    ------
    ModelCorrupt
        ``model_unsupported``: another pooling, or layers after it.
    """
    folder = weights.parent
    pooling = folder / "1_Pooling" / "config.json"
    said = _json(spec, pooling) if pooling.is_file() else {_MEAN: True}
    modes = {name for name, on in said.items() if name.startswith("pooling_mode_") and on}
    later = [path.name for path in folder.iterdir() if path.is_dir() and "Dense" in path.name]
    if modes not in ({_MEAN}, {_CLASS}) or later:
        raise ModelCorrupt(
            f"The sentence encoder {spec.name} pools by {', '.join(sorted(modes)) or 'nothing'} "
            f"{'with ' + ', '.join(later) if later else ''}: only the mean of the tokens, or the "
            "class token, without further layers, can be loaded.",
            code="model_unsupported",
        )
    config = _config(spec, AutoConfig, folder)
    try:
        kind = type(AutoModel.from_config(config, trust_remote_code=False))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelCorrupt(
            f"transformers knows no network of the kind that {spec.name} names. {spec.remedy}",
            code="model_unsupported",
        ) from error
    # The pooler of BERT and the heads of its training are not used here; many releases lack them.
    network = _filled(
        spec, kind, config, read_state(spec, weights), unused=("pooler.", "cls.", "lm_head.")
    )
    module = MeanOfTokens(network) if modes == {_MEAN} else _FirstToken(network)
    tokenize = tokenizer_of(spec, _tokenizer(spec, folder))
    return SentenceNetwork(spec, tokenize, module, runtime)
