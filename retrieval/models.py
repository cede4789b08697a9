"""Embeddings, the state of making them, and what was asked and answered."""

import numpy as np
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from pgvector.django import HalfVectorField

from cases.models import Department, LeasedWork, Report, SlideImage
from cases.models.base import Record
from cases.querysets import SlideImagePartQuerySet
from retrieval.codecs import stored_tokens
from retrieval.engine.mosaic import Mosaic
from retrieval.fields import PlacesField
from retrieval.models_codec import MosaicCodec
from retrieval.models_map import MapPoint, MapRun
from retrieval.models_neighbours import SlideNeighbours
from retrieval.models_quality import SlideQuality
from retrieval.models_recall import SearchCosts, SearchSelfCheck
from retrieval.models_saved import SavedSearch
from retrieval.models_training import TrainingRun, TrainingSlide
from retrieval.models_words import DepartmentTerm, ReportWords, VoteCalibration
from retrieval.querysets import (
    ReportEmbeddingQuerySet,
    SearchHitQuerySet,
    SearchQueryQuerySet,
    SlideEmbeddingQuerySet,
)


class EmbeddingModel(models.Model):
    """An immutable recipe: what turns a slide, or a report, into vectors of one space.

    Only `is_active` and `is_kept_current` change. One model per modality is active: searches
    use it. New slides are indexed by the active model and by those that are kept current, so
    that searches can change over to them, or back, at once.
    """

    class Modality(models.TextChoices):
        IMAGE = "image", _("Slides")
        TEXT = "text", _("Reports")

    name = models.SlugField(max_length=80, unique=True)
    modality = models.CharField(max_length=5, choices=Modality)
    encoder = models.CharField(max_length=60, help_text="Name in the encoder registry")
    aggregator = models.CharField(max_length=60, help_text="How patches become a slide")
    weights_sha256 = models.CharField(max_length=64)
    aggregator_path = models.CharField(
        max_length=300, blank=True, help_text="Trained weights, relative to the data folder"
    )
    aggregator_sha256 = models.CharField(max_length=64, blank=True)
    text_encoder = models.CharField(
        max_length=60, blank=True, help_text="Sentence encoder of the model's text side, if any"
    )
    has_text_side = models.BooleanField(
        default=False, help_text="Texts have a place among the slide vectors"
    )
    token_share = models.FloatField(
        null=True, blank=True, help_text="Calibrated weight of the tokens; empty: the site's own"
    )
    feature_dimension = models.PositiveIntegerField(
        default=0, help_text="Width of a patch feature; 0: as `dimension`"
    )
    dimension = models.PositiveIntegerField()
    token_dimension = models.PositiveIntegerField(
        default=0, help_text="Width of a mosaic token; 0: as `dimension`"
    )
    token_count = models.PositiveSmallIntegerField(default=0)
    patch_px = models.PositiveIntegerField(default=0)
    mpp = models.FloatField(default=0)
    centre = models.BinaryField(
        default=bytes, help_text="float32 vector subtracted from features; empty: none"
    )
    description = models.TextField(blank=True)
    is_active = models.BooleanField(default=False)
    is_kept_current = models.BooleanField(
        default=False, help_text="New slides are indexed by it too, though it is not active"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["modality", "-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["modality"],
                condition=Q(is_active=True),
                name="embedding_model_one_active_per_modality",
            ),
            models.CheckConstraint(
                condition=Q(dimension__gte=1, dimension__lte=4000),
                name="embedding_model_dimension_fits_an_index",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def version(self) -> str:
        """Return what tells this recipe from any other: the start of its weights' hash."""
        return (self.aggregator_sha256 or self.weights_sha256)[:12]

    @property
    def feature_width(self) -> int:
        """Return the width of a patch feature."""
        return self.feature_dimension or self.dimension

    @property
    def token_width(self) -> int:
        """Return the width of a mosaic token."""
        return self.token_dimension or self.dimension


class SlideIndex(LeasedWork, Record):
    """The job of embedding one slide image by one model, and its outcome."""

    class State(models.TextChoices):
        QUEUED = "queued", _("Waiting")
        RUNNING = "running", _("Indexing")
        INDEXED = "indexed", _("Indexed")
        SKIPPED = "skipped", _("Not indexed")
        FAILED = "failed", _("Failed")

    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="indexes")
    model = models.ForeignKey(EmbeddingModel, on_delete=models.PROTECT, related_name="indexes")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED, db_index=True)
    patch_count = models.PositiveIntegerField(default=0)
    features_path = models.CharField(
        max_length=300, blank=True, help_text="safetensors, relative to the data folder"
    )
    timings = models.JSONField(default=dict, blank=True, help_text="Seconds by step")

    objects = SlideImagePartQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "slide indexes"
        constraints = [
            models.UniqueConstraint(
                fields=["slide_image", "model"], name="slide_index_once_per_model"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["skipped", "failed"]) | ~Q(reason_code=""),
                name="slide_index_says_why_not",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slide_image_id}: {self.get_state_display()}"


class SlideEmbedding(models.Model):
    """The vectors of one indexed slide image."""

    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="embeddings")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    model = models.ForeignKey(EmbeddingModel, on_delete=models.PROTECT, related_name="+")
    # No fixed width: models differ. Each has a partial index cast to its dimension.
    vector = HalfVectorField(help_text="L2-normalised slide embedding")
    mosaic = models.BinaryField(
        help_text="L2-normalised mosaic tokens: coded, or float16 (M, D) where there is no codec"
    )
    codec = models.ForeignKey(
        MosaicCodec,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,  # one value, or none: see the index of those that wait
    )
    cells = ArrayField(
        models.IntegerField(), default=list, help_text="Per token: codec and cell, as one number"
    )
    places = PlacesField(
        help_text="Per token: x_l0, y_l0, size_l0 of its nearest patch and `share` of the tissue"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SlideEmbeddingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slide_image", "model"], name="slide_embedding_once_per_model"
            )
        ]
        indexes = [
            models.Index(fields=["model", "department"]),
            models.Index(
                fields=["model"],
                name="slide_embedding_uncoded",
                condition=Q(codec__isnull=True, cells=[]),
            ),
            # No pending list: what waits in it is searched row by row.
            GinIndex(fields=["cells"], name="slide_embedding_cells", fastupdate=False),
        ]

    def __str__(self) -> str:
        return f"Embedding of {self.slide_image_id}"

    def as_mosaic(self) -> Mosaic:
        """Return tokens, places and vector as the engine has them."""
        tokens = stored_tokens(bytes(self.mosaic), self.codec_id, self.model.token_width)
        return Mosaic(tokens, self.places, np.asarray(self.vector, dtype=np.float32))


class ReportEmbedding(models.Model):
    """The sentence embedding of a current report."""

    report = models.ForeignKey(Report, on_delete=models.CASCADE, related_name="embeddings")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    model = models.ForeignKey(EmbeddingModel, on_delete=models.PROTECT, related_name="+")
    vector = HalfVectorField(help_text="L2-normalised")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ReportEmbeddingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["report", "model"], name="report_embedding_once_per_model"
            )
        ]

    def __str__(self) -> str:
        return f"Embedding of report {self.report_id}"


class SearchQuery(Record):
    """A question as it was asked, with what is needed to show and to repeat it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="search_queries"
    )
    # The departments the asker searched in: who lacks one of them may not read the words
    # or the image of the query, which can come from there.
    scope_department_ids = ArrayField(models.BigIntegerField())
    slide_image = models.ForeignKey(
        SlideImage, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    region = models.JSONField(
        null=True, blank=True, help_text="x_l0, y_l0, width_l0, height_l0 of the slide image"
    )
    image_jpeg = models.BinaryField(default=bytes, help_text="Small copy of an uploaded image")
    image_mpp = models.FloatField(null=True, blank=True)
    text = models.CharField(max_length=1000, blank=True)
    is_literal = models.BooleanField(default=False, help_text="The words count as typed")
    understood = models.JSONField(
        default=dict, blank=True, help_text="What was understood: chips, and texts to mark"
    )
    refined_from = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The question whose marked answers moved this one",
    )
    filters = models.JSONField(default=dict, blank=True)
    image_weight = models.FloatField(default=1.0)
    text_weight = models.FloatField(default=1.0)
    include_same_patient = models.BooleanField(default=False)
    image_model = models.ForeignKey(
        EmbeddingModel, on_delete=models.PROTECT, null=True, related_name="+"
    )
    text_model = models.ForeignKey(
        EmbeddingModel, on_delete=models.PROTECT, null=True, related_name="+"
    )
    vector = HalfVectorField(null=True, help_text="The query's vector, as SlideEmbedding's")
    mosaic = models.BinaryField(default=bytes, help_text="The query's tokens, as SlideEmbedding's")
    places = models.JSONField(default=list, blank=True)
    notices = models.JSONField(default=list, blank=True, help_text="What a reader must know")
    seconds = models.FloatField(default=0)
    is_automatic = models.BooleanField(
        default=False, help_text="Asked by a saved search, not by hand"
    )
    timings = models.JSONField(
        default=dict, blank=True, help_text="Seconds by stage, and how candidates were found"
    )

    objects = SearchQueryQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "search queries"
        constraints = [
            models.CheckConstraint(
                condition=Q(slide_image__isnull=False) | ~Q(image_jpeg=b"") | ~Q(text=""),
                name="search_query_asks_something",
            ),
            models.CheckConstraint(
                condition=Q(region__isnull=True) | Q(slide_image__isnull=False),
                name="search_query_region_has_slide",
            ),
        ]

    def __str__(self) -> str:
        return f"Search {self.id}"

    @property
    def asks_by_image(self) -> bool:
        """Return whether tissue was part of the question: a slide, a region or a picture."""
        return self.slide_image_id is not None or bool(self.image_jpeg)


class SearchHit(models.Model):
    """One answer to a query."""

    query = models.ForeignKey(SearchQuery, on_delete=models.CASCADE, related_name="hits")
    rank = models.PositiveIntegerField()
    slide_image = models.ForeignKey(SlideImage, on_delete=models.CASCADE, related_name="+")
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="+")
    score = models.FloatField(help_text="What the order is by; larger is better")
    image_similarity = models.FloatField(null=True, help_text="Mosaic similarity, -1 to 1")
    image_rank = models.PositiveIntegerField(null=True)
    text_rank = models.PositiveIntegerField(null=True)
    text_similarity = models.FloatField(null=True, help_text="Cosine to the report, -1 to 1")
    tissue_text_similarity = models.FloatField(
        null=True, help_text="Cosine of the words to the slide itself, -1 to 1"
    )
    full_text_match = models.BooleanField(default=False)
    pairs = models.JSONField(
        default=list, help_text="Best token pairs: query and candidate places, similarity"
    )

    objects = SearchHitQuerySet.as_manager()

    class Meta:
        ordering = ["rank"]
        constraints = [
            models.UniqueConstraint(fields=["query", "rank"], name="search_hit_rank_is_unique"),
            models.UniqueConstraint(
                fields=["query", "slide_image"], name="search_hit_once_per_query"
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.rank} of {self.query_id}"


class Feedback(models.Model):
    """A user's word on one answer."""

    class Verdict(models.TextChoices):
        RELEVANT = "relevant", _("Relevant")
        NOT_RELEVANT = "not_relevant", _("Not relevant")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    hit = models.ForeignKey(SearchHit, on_delete=models.CASCADE, related_name="feedback")
    verdict = models.CharField(max_length=12, choices=Verdict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "feedback"
        constraints = [
            models.UniqueConstraint(fields=["user", "hit"], name="feedback_once_per_user_and_hit")
        ]

    def __str__(self) -> str:
        return f"{self.get_verdict_display()} by {self.user_id}"


__all__ = [  # some are kept in files of their own
    "DepartmentTerm",
    "EmbeddingModel",
    "Feedback",
    "MapPoint",
    "MapRun",
    "MosaicCodec",
    "ReportEmbedding",
    "ReportWords",
    "SavedSearch",
    "SearchCosts",
    "SearchHit",
    "SearchQuery",
    "SearchSelfCheck",
    "SlideEmbedding",
    "SlideIndex",
    "SlideNeighbours",
    "SlideQuality",
    "TrainingRun",
    "TrainingSlide",
    "VoteCalibration",
]
