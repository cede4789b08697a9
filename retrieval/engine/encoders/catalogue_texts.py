"""Text encoders that a site can add; see `catalogue_images` for where the facts come from."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from retrieval.engine.encoders.files import find_weights, models_folder
from retrieval.engine.encoders.spec import ModelFiles, TextEncoderSpec
from retrieval.engine.encoders.terms import CC_BY_NC_ND, EXTRA, TOKENIZER, remedy
from retrieval.engine.errors import ModelCorrupt, ModelMissing

SENTENCE_PREFIX = "sentence:"
_SENTENCE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def _entry(
    name: str,
    repository: str,
    files: ModelFiles,
    *,
    dimension: int,
    licence: str,
    builder: str,
    library: str,
    max_tokens: int,
    gated: bool = False,
    shares_space_with: str = "",
    note: str = "",
    options: Mapping[str, Any] | None = None,
) -> TextEncoderSpec:
    return TextEncoderSpec(
        name=name,
        dimension=dimension,
        licence=licence,
        source=f"huggingface.co/{repository}",
        weights_sha256="",
        locate=partial(find_weights, files),
        builder=f"retrieval.engine.loaders.{builder}",
        remedy=remedy(name, files, gated=gated, extra=library in EXTRA),
        files=files,
        library=library,
        gated=gated,
        shares_space_with=shares_space_with,
        note=note,
        options=options or {},
        max_tokens=max_tokens,
    )


_BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"

SITE_TEXT_ENCODERS: tuple[TextEncoderSpec, ...] = (
    _entry(
        "biomedclip",
        _BIOMEDCLIP,
        ModelFiles("biomedclip", (_BIOMEDCLIP,), ("open_clip_pytorch_model.bin",), TOKENIZER),
        dimension=512,
        licence="MIT; its model card puts any deployed use out of scope",
        builder="transformers_models:biomedclip_texts",
        library="transformers",
        max_tokens=256,
        shares_space_with="biomedclip",
        note="PubMedBERT; the text tower that the reference configuration starts from.",
        # BERT base: what the hub's BiomedNLP-BiomedBERT-base-uncased-abstract describes.
        options={"bert": {"vocab_size": 30522}},
    ),
    _entry(
        "plip",
        "vinid/plip",
        ModelFiles(
            "plip",
            ("vinid/plip",),
            ("model.safetensors", "pytorch_model.bin"),
            ("config.json", *TOKENIZER),
        ),
        dimension=512,
        licence="None stated on the model card, which puts any deployed use out of scope",
        builder="transformers_models:clip_texts",
        library="transformers",
        max_tokens=77,
        shares_space_with="plip",
    ),
    _entry(
        "conch",
        "MahmoodLab/CONCH",
        ModelFiles(
            "conch",
            ("MahmoodLab/conch", "MahmoodLab/CONCH"),
            ("pytorch_model.bin",),
            ("tokenizer.json",),
        ),
        dimension=512,
        licence=CC_BY_NC_ND,
        builder="open_clip_models:conch_texts",
        library="open_clip",
        # Of 128 places the last is the class token's.
        max_tokens=127,
        gated=True,
        shares_space_with="conch-projected",
        note=(
            "tokenizer.json is conch/open_clip_custom/tokenizers/"
            "conch_byte_level_bpe_uncased.json of github.com/mahmoodlab/CONCH: copy it beside "
            "the weights under this name."
        ),
        options={
            "vocab_size": 32007,
            "context_length": 128,
            "width": 768,
            "heads": 12,
            "layers": 12,
        },
    ),
    _entry(
        "quiltnet-b-32",
        "wisdomik/QuiltNet-B-32",
        ModelFiles(
            "quiltnet-b-32",
            ("wisdomik/QuiltNet-B-32",),
            ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
            ("open_clip_config.json",),
        ),
        dimension=512,
        licence="MIT; its model card intends it for research",
        builder="open_clip_models:clip_texts",
        library="open_clip",
        max_tokens=77,
        shares_space_with="quiltnet-b-32",
    ),
    _entry(
        "keep",
        "Astaxanthin/KEEP",
        ModelFiles(
            "keep",
            ("Astaxanthin/KEEP",),
            ("model.safetensors", "pytorch_model.bin"),
            ("config.json", *TOKENIZER),
        ),
        dimension=768,
        licence="MIT",
        builder="transformers_models:keep_texts",
        library="transformers",
        max_tokens=256,
        shares_space_with="keep",
    ),
)


def sentence_encoder(name: str) -> TextEncoderSpec | None:
    """Return the entry of ``sentence:FOLDER``: any sentence encoder that lies in that folder.

    Returns
    -------
    TextEncoderSpec or None
        None for a name of another form.

    Raises
    ------
    ModelMissing, ModelCorrupt
        The folder has no config.json, or one that does not give the vectors' length.
    """
    if not name.startswith(SENTENCE_PREFIX):
        return None
    folder = name.removeprefix(SENTENCE_PREFIX)
    files = ModelFiles(folder, (), _SENTENCE_WEIGHTS, ("config.json", *TOKENIZER))
    what = remedy(name, files, gated=False, extra=False)
    if not folder or folder != folder.strip("./ ") or "/" in folder or "\\" in folder:
        raise ModelMissing(f"{folder!r} is no name of a folder in the models folder. {what}")
    path = models_folder() / folder
    try:
        width = int(json.loads((path / "config.json").read_text(encoding="utf-8"))["hidden_size"])
        cut = path / "sentence_bert_config.json"
        most = json.loads(cut.read_text(encoding="utf-8")) if cut.is_file() else {}
        max_tokens = int(most.get("max_seq_length") or 256)
    except FileNotFoundError as error:
        raise ModelMissing(f"There is no sentence encoder in {path}. {what}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(f"The configuration in {path} cannot be read. {what}") from error
    return TextEncoderSpec(
        name=name,
        dimension=width,
        licence="As the site got it: see the folder",
        source=f"folder {folder} of the models folder",
        weights_sha256="",
        locate=partial(find_weights, files),
        builder="retrieval.engine.loaders.transformers_models:sentence_folder",
        remedy=what,
        files=files,
        library="transformers",
        max_tokens=max_tokens,
    )
