"""Settings of the API and of its schema."""

from pathsearch_site.settings import env

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "cases.api.authentication.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "cases.api.authentication.HasTokenScope",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "cases.api.pagination.Pages",
    "PAGE_SIZE": 50,
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "cases.api.filters.StableOrderingFilter",
    ],
    "DEFAULT_THROTTLE_CLASSES": [
        "cases.api.throttles.CallerThrottle",
        "cases.api.throttles.OwnerThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "caller": env.string(
            "PATHSEARCH_API_RATE",
            "1200/min",
            "API requests that one token or user may send, as number/second, /min or /hour",
        ),
        "owner": env.string(
            "PATHSEARCH_API_OWNER_RATE",
            "3600/min",
            "API requests that all tokens and sessions of one user may send together",
        ),
    },
    # No OPTIONS: the schema describes the API, and metadata would answer before it is asked for.
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "pathsearch_site.exception_handler.problem_json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "PathSearch API",
    "VERSION": "1",
    "DESCRIPTION": "Cases, slides, reports, uploads and searches of the departments you may see.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "UploadStateEnum": "cases.models.SlideUpload.State",
        "ExportStateEnum": "cases.models.Export.State",
        "ExportItemStateEnum": "cases.models.ExportItem.State",
        "UploadItemStateEnum": "cases.models.UploadItem.State",
        "MergeSourceEnum": "cases.models.PatientMerge.Source",
        "UploadSourceEnum": "cases.models.SlideUpload.Source",
        "IndexStateEnum": "retrieval.models.SlideIndex.State",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "cases.api.schema.add_problem_responses",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
