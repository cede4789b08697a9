"""Pages of the cases app."""

urlpatterns: list = []
