"""What is known of the speed and the recall of searches on this site."""

from django.db import models

from cases.models import Department


class SearchCosts(models.Model):
    """What an exact scan and a walk through the index cost here, as `measure_search` found."""

    model = models.OneToOneField(
        "retrieval.EmbeddingModel", on_delete=models.CASCADE, related_name="search_costs"
    )
    slides = models.PositiveIntegerField()
    exact_us = models.FloatField(help_text="Microseconds for a row of an exact scan")
    visit_us = models.FloatField(help_text="Microseconds for a candidate that the index yields")
    walk_us = models.FloatField(help_text="Microseconds before the first candidate")
    ef_search = models.JSONField(
        default=dict, help_text="Candidates wanted: ef_search that reaches the recall aimed at"
    )
    measured_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "search costs"

    def __str__(self) -> str:
        return f"Search costs of {self.model}"


class SearchSelfCheck(models.Model):
    """How much of the exact answer a sample of one department's searches found."""

    department = models.ForeignKey(Department, on_delete=models.CASCADE, related_name="+")
    model = models.ForeignKey(
        "retrieval.EmbeddingModel", on_delete=models.CASCADE, related_name="+"
    )
    asked = models.PositiveIntegerField(help_text="Slides of the department that asked")
    recall = models.FloatField(help_text="Mean share of the ten exact neighbours that were found")
    worst = models.FloatField(help_text="Lowest of the sample")
    is_alert = models.BooleanField(default=False, db_index=True)
    by_way = models.JSONField(default=dict, help_text="Questions by the way that was planned")
    checked_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-checked_at"]
        indexes = [models.Index(fields=["department", "model", "-checked_at"])]
        verbose_name = "search self-check"

    def __str__(self) -> str:
        return f"Recall {self.recall:.3f} in department {self.department_id}"
