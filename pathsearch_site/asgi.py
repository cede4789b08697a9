"""ASGI entry: uvicorn serves it. (WSGI servers lose chunked request bodies without a word.)"""

import os

import django
from django.conf import settings

# Requests are answered beside each other: a thread of NumPy's own for each core would have them
# wait for one another, for products that take less than the waiting. Before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.production")
django.setup(set_prefix=False)

# The handlers import the apps, which must be set up.
from django.urls import get_resolver  # noqa: E402

from cases.dicomweb.frame_door import FrameDoor  # noqa: E402
from pathsearch_site import garbage  # noqa: E402
from pathsearch_site.body_limit import BodyLimit  # noqa: E402
from pathsearch_site.streamed_body import StreamingHandler, is_streamed  # noqa: E402

_MULTIPART_OVERHEAD = 2**20

application = FrameDoor(
    BodyLimit(
        StreamingHandler(settings.UPLOAD_MAX_BYTES),
        settings.UPLOAD_CHUNK_MAX_BYTES + _MULTIPART_OVERHEAD,
        exempt=is_streamed,
    ),
    connections=settings.FRAME_DB_CONNECTIONS,
)

# All views, read now and not by the first request: they are part of what stays.
_ = get_resolver().url_patterns
garbage.settle()
