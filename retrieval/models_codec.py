"""How the mosaic tokens of a model are coded."""

from django.db import models

# A cell is kept with its codec: one number says both.
CELLS_PER_CODEC = 65_536


class MosaicCodec(models.Model):
    """The axes, steps and cells of one model's tokens; written once, never changed."""

    model = models.ForeignKey(
        "retrieval.EmbeddingModel", on_delete=models.CASCADE, related_name="codecs"
    )
    payload = models.BinaryField(help_text="safetensors of retrieval.engine.token_codec")
    sha256 = models.CharField(max_length=64)
    fitted_to_slides = models.PositiveIntegerField(help_text="Slides in the sample")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            # Coded tokens are not coded again: what the first codec dropped is gone.
            models.UniqueConstraint(fields=["model"], name="mosaic_codec_once_per_model")
        ]

    def __str__(self) -> str:
        return f"Codec of {self.model}"
