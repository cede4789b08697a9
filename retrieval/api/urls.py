"""API routes of the retrieval app."""

urlpatterns: list = []
