"""A trained aligner, small, registered beside a model of prototypes, over slides in a table."""

import hashlib

import numpy as np
from django.conf import settings
from django.db import connection

from retrieval.engine.aligner.fit import FitSettings, fit_aligner
from retrieval.engine.aligner.model import save_aligner
from retrieval.engine.aligner.words import WordConfig
from retrieval.engine.mosaic import prototypes
from retrieval.models import EmbeddingModel, SlideIndex
from retrieval.querysets import vector_index_ensure
from retrieval.services import features
from retrieval.services.indexing import embedding_write
from retrieval.services.models import embedding_table
from tests.factories import make_slide_image
from tests.retrieval.made_archive import made_archive

WIDTH = 12


def prototype_model(**fields) -> EmbeddingModel:
    """Return the active model, of prototypes over features 12 wide."""
    EmbeddingModel.objects.filter(is_active=True, modality="image").update(is_active=False)
    model = EmbeddingModel.objects.create(
        **{
            "name": "old",
            "modality": "image",
            "encoder": "fake",
            "aggregator": "prototypes",
            "weights_sha256": "0" * 64,
            "dimension": WIDTH,
            "token_count": 4,
            "patch_px": 32,
            "mpp": 2.0,
            "is_active": True,
            **fields,
        }
    )
    connection.check_constraints()
    vector_index_ensure(embedding_table(model), model)
    return model


def aligner_model(archive=None, name="new") -> EmbeddingModel:
    """Return an inactive model whose weights are an aligner fitted to a made archive."""
    archive = archive or made_archive(slides=90)
    aligner = fit_aligner(
        archive,
        np.arange(len(archive)),
        FitSettings(look_count=6, words=WordConfig(bits=8, first_words=0, min_reports=2)),
    )
    path = f"models/{name}/model.safetensors"
    file = settings.DATA_DIR / path
    file.parent.mkdir(parents=True, exist_ok=True)
    save_aligner(aligner, file)
    model = EmbeddingModel.objects.create(
        name=name,
        modality="image",
        encoder="fake",
        aggregator="aligner",
        weights_sha256="0" * 64,
        aggregator_path=path,
        aggregator_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        has_text_side=True,
        token_share=aligner.config.token_share,
        feature_dimension=WIDTH,
        dimension=aligner.dimension,
        token_dimension=aligner.token_dimension,
        token_count=aligner.config.token_count,
        patch_px=32,
        mpp=2.0,
    )
    # A test is one transaction: its deferred checks must be done before an index is made.
    connection.check_constraints()
    return model


def indexed_slide(department, model, values, **fields):
    """Return a slide image that `model` has indexed from these features (N, 12)."""
    slide_image = make_slide_image(department, mpp=1.0, **fields)
    coords = np.stack([np.arange(len(values)), np.zeros(len(values), int)], 1) * 64
    path = features.features_path(slide_image.pk, model.name)
    prepared = features.features_prepare(path, features=values, coords_l0=coords, size_l0=64)
    features.features_place(prepared, path)
    kept = features.features_read(path)
    mosaic = prototypes(kept.features, coords, 64, token_count=model.token_count)
    embedding_write(slide_image=slide_image, model=model, mosaic=mosaic)
    SlideIndex.objects.create(
        slide_image=slide_image,
        department=slide_image.department,
        model=model,
        state=SlideIndex.State.INDEXED,
        patch_count=len(values),
        features_path=path,
    )
    return slide_image


def indexed_archive(department, model, count=12, archive=None):
    """Return slide images of a department with the features of a made archive."""
    archive = archive or made_archive(slides=90)
    return [indexed_slide(department, model, archive.bag(number)) for number in range(count)]
