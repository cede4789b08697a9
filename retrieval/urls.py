"""Pages of the retrieval app."""

from django.urls import path

from retrieval.views import archive_map, compare, indexing, metrics, saved, search, similar

urlpatterns = [
    path("search/", search.search, name="search"),
    path("slides/<uuid:pk>/similar/", search.search_slide, name="search_slide"),
    path("cases/<uuid:pk>/similar/", similar.case_similar, name="case_similar"),
    path("slides/<uuid:pk>/compare/", compare.compare, name="compare"),
    path("slides/<uuid:pk>/places.json", compare.slide_places_json, name="slide_places"),
    path("searches/", search.searches, name="searches"),
    path("searches/recent/", search.searches_recent, name="searches_recent"),
    path("searches/<uuid:pk>/facets/", search.search_facets_shown, name="search_facets"),
    path("searches/saved/", saved.saved_searches, name="saved_searches"),
    path("searches/saved/<uuid:pk>/", saved.saved_search_open, name="saved_search_open"),
    path("searches/saved/<uuid:pk>/remove/", saved.saved_search_remove, name="saved_search_remove"),
    path("searches/<uuid:pk>/save/", saved.saved_search_new, name="saved_search_new"),
    path("searches/<uuid:pk>/", search.search_results, name="search_results"),
    path("searches/<uuid:pk>/export.csv", search.search_export, name="search_export"),
    path("searches/<uuid:pk>/feedback/", search.search_feedback, name="search_feedback"),
    path("searches/<uuid:pk>/refine/", search.search_refine, name="search_refine"),
    path("searches/<uuid:pk>/image.jpeg", search.search_image, name="search_image"),
    path("map/", archive_map.archive_map, name="map"),
    path("map/points.bin", archive_map.map_points, name="map_points"),
    path("metrics", metrics.metrics, name="metrics"),
    path("indexing/", indexing.indexing, name="indexing"),
    path("indexing/<uuid:pk>/retry/", indexing.retry, name="index_retry"),
]
