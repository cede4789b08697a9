"""API routes of the retrieval app."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from retrieval.api import explanations, index_status, searches

router = SimpleRouter()
router.register("searches", searches.SearchViewSet, basename="searches")
router.register("index-status", index_status.IndexStatusViewSet, basename="index-status")

urlpatterns = [
    path(
        "searches/<uuid:pk>/hits/<int:rank>/explanation/",
        explanations.HitExplanationView.as_view(),
        name="searches-explanation",
    ),
    path(
        "slide-images/<uuid:pk>/attention/",
        explanations.SlideAttentionView.as_view(),
        name="slide-images-attention",
    ),
    *router.urls,
]
