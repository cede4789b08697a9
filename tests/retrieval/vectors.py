"""Embeddings made by hand: small models, slides that lie where a test wants them."""

import numpy as np
from django.db import connection

from cases.models import Report, SlideImage
from retrieval.models import EmbeddingModel, ReportEmbedding, SlideEmbedding
from retrieval.querysets import vector_index_ensure

DIMENSION = 8
_TABLES = {"image": SlideEmbedding, "text": ReportEmbedding}


def make_model(modality: str = "image", *, dimension: int = DIMENSION, **fields) -> EmbeddingModel:
    """Return the active model of a modality, with its index; a test has one of each."""
    image = {"token_count": 4, "patch_px": 224, "mpp": 1.0} if modality == "image" else {}
    model = EmbeddingModel.objects.create(
        name=f"test-{modality}-{dimension}",
        modality=modality,
        encoder="efficientnet-lite0" if modality == "image" else "all-minilm-l6-v2",
        aggregator="test",
        weights_sha256="0" * 64,
        dimension=dimension,
        is_active=True,
        **{**image, **fields},
    )
    # Rows of this transaction have checks to come, which an index must not be made before.
    connection.check_constraints()
    vector_index_ensure(_TABLES[modality], model)
    return model


def unit(vector) -> np.ndarray:
    """Return the vector at length one, float32."""
    vector = np.asarray(vector, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def axis(index: int, dimension: int = DIMENSION) -> np.ndarray:
    """Return the unit vector along one axis."""
    return np.eye(dimension, dtype=np.float32)[index]


def between(first: int, second: int, share: float, dimension: int = DIMENSION) -> np.ndarray:
    """Return a unit vector with `share` of one axis and the rest of another."""
    return unit(share * axis(first, dimension) + (1 - share) * axis(second, dimension))


def embed(slide_image: SlideImage, model: EmbeddingModel, vector, tokens=None, shares=None):
    """Store the embedding of a slide image; without tokens the vector is the only one."""
    tokens = np.atleast_2d(np.asarray([vector] if tokens is None else tokens, dtype=np.float32))
    shares = [1 / len(tokens)] * len(tokens) if shares is None else shares
    return SlideEmbedding.objects.create(
        slide_image=slide_image,
        department=slide_image.department,
        model=model,
        vector=np.asarray(vector, dtype=np.float32).tolist(),
        mosaic=tokens.astype("<f2").tobytes(),
        places=[
            {"x_l0": 256 * i, "y_l0": 128 * i, "size_l0": 224, "share": share}
            for i, share in enumerate(shares)
        ],
    )


def embed_report(report: Report, model: EmbeddingModel, vector) -> ReportEmbedding:
    """Store the embedding of a report."""
    return ReportEmbedding.objects.create(
        report=report,
        department=report.case.department,
        model=model,
        vector=np.asarray(vector, dtype=np.float32).tolist(),
    )
