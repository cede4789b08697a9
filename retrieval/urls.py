"""Pages of the retrieval app."""

urlpatterns: list = []
