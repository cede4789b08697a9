"""Indexed slides by the thousand: without files, each with one token, its vector."""

import uuid

import numpy as np
from django.db import connection

from cases.models import SlideImage
from retrieval.models import SlideEmbedding
from tests.factories import CaseFactory, SlideFactory

DIMENSION = 16
PATIENTS = 4
_PLACE = {"x_l0": 0, "y_l0": 0, "size_l0": 224, "share": 1.0}


def many_slides(model, departments, vectors) -> None:
    """Deal the vectors out to a patient of each of the departments, row by row."""
    glass = [SlideFactory(case=CaseFactory(department=d)) for d in departments]
    images = SlideImage.objects.bulk_create(
        (
            SlideImage(
                slide=glass[i % len(glass)],
                department=departments[i % len(glass)],
                source_format="vendor",
                content_sha256=uuid.uuid4().hex,
                path="none",
                size_bytes=1,
                width_l0=1,
                height_l0=1,
                level_count=1,
                mpp=0.5,
                mpp_source="file",
            )
            for i in range(len(vectors))
        ),
        batch_size=2000,
    )
    SlideEmbedding.objects.bulk_create(
        (
            SlideEmbedding(
                slide_image=image,
                department=image.department,
                model=model,
                vector=vector.tolist(),
                mosaic=vector.astype("<f2").tobytes(),
                places=[_PLACE],
            )
            for image, vector in zip(images, vectors, strict=True)
        ),
        batch_size=2000,
    )
    connection.check_constraints()


def add_slides(model, department, vectors) -> None:
    """Add slides of some patients of one department."""
    many_slides(model, [department] * PATIENTS, vectors)


def units(count: int, seed: int, dimension: int = DIMENSION) -> np.ndarray:
    """Return random unit vectors float32 (count, dimension)."""
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
