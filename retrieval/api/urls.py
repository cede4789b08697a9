"""API routes of the retrieval app."""

from rest_framework.routers import SimpleRouter

from retrieval.api import searches

router = SimpleRouter()
router.register("searches", searches.SearchViewSet, basename="searches")

urlpatterns = router.urls
