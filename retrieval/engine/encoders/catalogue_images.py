"""Image encoders that a site can add. Facts only: what each is, by its authors' own words.

Read in November 2026 from the model cards on the Hugging Face hub, from the authors'
repositories, and, for sizes, pooling and normalisation, from the loaders in mahmoodlab/TRIDENT.
`patch_px` at `mpp` is what a network sees. Where authors shrink a larger patch, or name no
pixel size, the note says so.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from retrieval.engine.encoders.files import find_weights
from retrieval.engine.encoders.spec import ImageEncoderSpec, ModelFiles
from retrieval.engine.encoders.terms import (
    CC_BY_NC_ND,
    EXTRA,
    TIMM_WEIGHTS,
    grey_levels,
    remedy,
)

_IMAGENET = grey_levels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = grey_levels((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HOPTIMUS = grey_levels((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HALF = grey_levels((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_Levels = tuple[tuple[float, float, float], tuple[float, float, float]]


def _entry(
    name: str,
    repository: str,
    *,
    dimension: int,
    licence: str,
    builder: str,
    library: str,
    levels: _Levels,
    files: ModelFiles,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> ImageEncoderSpec:
    gated = bool(more.get("gated"))
    return ImageEncoderSpec(
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
        mean=levels[0],
        std=levels[1],
        options=options or {},
        **more,
    )


def _timm(
    name: str,
    repository: str,
    architecture: str,
    arguments: Mapping[str, Any],
    *,
    pooling: str = "class",
    levels: _Levels = _IMAGENET,
    **more: Any,
) -> ImageEncoderSpec:
    return _entry(
        name,
        repository,
        builder="timm_models:vit_patches",
        library="timm",
        levels=levels,
        files=ModelFiles(name, (repository,), TIMM_WEIGHTS),
        options={"architecture": architecture, "arguments": arguments, "pooling": pooling},
        gated=True,
        **more,
    )


_VIT_L = {"img_size": 224, "patch_size": 16, "init_values": 1e-5, "dynamic_img_size": True}
_CONCH_TRUNK = {
    "architecture": "vit_base_patch16_224",
    "arguments": {"img_size": 448, "dynamic_img_size": True},
    "pool_heads": 8,
}
_CONCH_FILES = ModelFiles("conch", ("MahmoodLab/conch", "MahmoodLab/CONCH"), ("pytorch_model.bin",))
_PLIP_FILES = ModelFiles(
    "plip", ("vinid/plip",), ("model.safetensors", "pytorch_model.bin"), ("config.json",)
)
_QUILT_FILES = ModelFiles(
    "quiltnet-b-32",
    ("wisdomik/QuiltNet-B-32",),
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    ("open_clip_config.json",),
)
_KEEP_FILES = ModelFiles(
    "keep", ("Astaxanthin/KEEP",), ("model.safetensors", "pytorch_model.bin"), ("config.json",)
)
_BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"

SITE_IMAGE_ENCODERS: tuple[ImageEncoderSpec, ...] = (
    _entry(
        "conch-v1.5",
        "MahmoodLab/conchv1_5",
        dimension=768,
        licence=CC_BY_NC_ND,
        builder="timm_models:conch15_patches",
        library="timm",
        levels=_IMAGENET,
        # The first is TITAN's own file for `return_conch`, the second the separate release.
        files=ModelFiles(
            "conch-v1.5",
            ("MahmoodLab/TITAN", "MahmoodLab/conchv1_5"),
            ("conch_v1_5_pytorch_model.bin", "pytorch_model_vision.bin"),
        ),
        options={
            "architecture": "vit_large_patch16_224",
            "arguments": {"img_size": 448, "init_values": 1.0, "dynamic_img_size": True},
            "pool_heads": 8,
        },
        gated=True,
        patch_px=448,
        note=(
            "Also in huggingface.co/MahmoodLab/TITAN, whose return_conch() needs the "
            "repository's own code: here the same network is built by timm. TITAN reads 512 px "
            "at 20x and shrinks them to 448; here 448 px at 20x are read. A grid of positions of "
            "another size is fitted as DINO does."
        ),
    ),
    _entry(
        "conch",
        "MahmoodLab/CONCH",
        dimension=512,
        licence=CC_BY_NC_ND,
        builder="open_clip_models:conch_patches",
        library="open_clip",
        levels=_CLIP,
        files=_CONCH_FILES,
        options=_CONCH_TRUNK | {"projected": False},
        gated=True,
        patch_px=448,
        note="Before the projection, as its authors advise for slides; no space with texts.",
    ),
    _entry(
        "conch-projected",
        "MahmoodLab/CONCH",
        dimension=512,
        licence=CC_BY_NC_ND,
        builder="open_clip_models:conch_patches",
        library="open_clip",
        levels=_CLIP,
        files=_CONCH_FILES,
        options=_CONCH_TRUNK | {"projected": True},
        gated=True,
        patch_px=448,
        shares_space_with="conch",
    ),
    _timm(
        "uni",
        "MahmoodLab/UNI",
        "vit_large_patch16_224",
        _VIT_L,
        dimension=1024,
        licence=CC_BY_NC_ND,
    ),
    _timm(
        "uni2-h",
        "MahmoodLab/UNI2-h",
        "vit_giant_patch14_224",
        {
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "mlp_layer": "SwiGLUPacked",
            "act_layer": "SiLU",
            "reg_tokens": 8,
            "dynamic_img_size": True,
        },
        dimension=1536,
        licence=CC_BY_NC_ND,
        gpu_precision="bfloat16",
    ),
    _timm(
        "virchow2",
        "paige-ai/Virchow2",
        "vit_huge_patch14_224",
        {
            "img_size": 224,
            "init_values": 1e-5,
            "mlp_ratio": 5.3375,
            "reg_tokens": 4,
            "global_pool": "",
            "mlp_layer": "SwiGLUPacked",
            "act_layer": "SiLU",
            "dynamic_img_size": True,
        },
        pooling="class and mean",
        dimension=2560,
        licence=CC_BY_NC_ND,
        note="Class token and mean of the patch tokens, without the four register tokens.",
    ),
    _timm(
        "h-optimus-0",
        "bioptimus/H-optimus-0",
        "vit_giant_patch14_reg4_dinov2",
        {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
        levels=_HOPTIMUS,
        dimension=1536,
        licence="Apache-2.0",
    ),
    _timm(
        "h-optimus-1",
        "bioptimus/H-optimus-1",
        "vit_giant_patch14_reg4_dinov2",
        {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
        levels=_HOPTIMUS,
        dimension=1536,
        licence=CC_BY_NC_ND,
    ),
    _timm(
        "gigapath",
        "prov-gigapath/prov-gigapath",
        "vit_giant_patch14_dinov2",
        {
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            "init_values": 1e-5,
        },
        dimension=1536,
        licence="Apache-2.0; its authors intend it for research, not for clinical use",
        note="The tile encoder only; its authors cut 224 px out of the middle of 256.",
    ),
    _entry(
        "phikon-v2",
        "owkin/phikon-v2",
        dimension=1024,
        licence="Owkin non-commercial licence (LICENSE.pdf in its repository)",
        builder="transformers_models:dinov2_patches",
        library="transformers",
        levels=_IMAGENET,
        files=ModelFiles(
            "phikon-v2", ("owkin/phikon-v2",), ("model.safetensors",), ("config.json",)
        ),
        options={"pooling": "class"},
    ),
    _entry(
        "midnight",
        "kaiko-ai/midnight",
        dimension=3072,
        licence="MIT",
        builder="transformers_models:dinov2_patches",
        library="transformers",
        levels=_HALF,
        files=ModelFiles(
            "midnight", ("kaiko-ai/midnight",), ("model.safetensors",), ("config.json",)
        ),
        options={"pooling": "class and mean"},
        note="Midnight-12k, trained on TCGA: figures on TCGA are not figures on unseen slides.",
    ),
    _entry(
        "plip",
        "vinid/plip",
        dimension=512,
        licence="None stated on the model card, which puts any deployed use out of scope",
        builder="transformers_models:clip_patches",
        library="transformers",
        levels=_CLIP,
        files=_PLIP_FILES,
        shares_space_with="plip",
        note="Trained on pictures from Twitter: its authors name no pixel size, 0.5 is ours.",
    ),
    _entry(
        "quiltnet-b-32",
        "wisdomik/QuiltNet-B-32",
        dimension=512,
        licence="MIT; its model card intends it for research",
        builder="open_clip_models:clip_patches",
        library="open_clip",
        levels=_CLIP,
        files=_QUILT_FILES,
        shares_space_with="quiltnet-b-32",
        note="Trained on frames of videos: its authors name no pixel size, 0.5 is ours.",
    ),
    _entry(
        "keep",
        "Astaxanthin/KEEP",
        dimension=768,
        licence="MIT",
        builder="timm_models:keep_patches",
        library="timm",
        levels=_IMAGENET,
        files=_KEEP_FILES,
        options={"architecture": "vit_large_patch16_224", "arguments": _VIT_L},
        shares_space_with="keep",
        note="Its repository loads by its own code: here timm and transformers build the same.",
    ),
    _entry(
        "biomedclip",
        _BIOMEDCLIP,
        dimension=512,
        licence="MIT; its model card puts any deployed use out of scope",
        builder="timm_models:biomedclip_patches",
        library="timm",
        levels=_CLIP,
        files=ModelFiles("biomedclip", (_BIOMEDCLIP,), ("open_clip_pytorch_model.bin",)),
        options={"architecture": "vit_base_patch16_224", "arguments": {"img_size": 224}},
        shares_space_with="biomedclip",
        note="Trained on figures of articles: its authors name no pixel size, 0.5 is ours.",
    ),
)
