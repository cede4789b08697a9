"""API routes of the retrieval app."""

from rest_framework.routers import SimpleRouter

from retrieval.api import index_status, searches

router = SimpleRouter()
router.register("searches", searches.SearchViewSet, basename="searches")
router.register("index-status", index_status.IndexStatusViewSet, basename="index-status")

urlpatterns = router.urls
