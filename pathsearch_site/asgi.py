"""ASGI entry: uvicorn serves it. (WSGI servers lose chunked request bodies without a word.)"""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application

from pathsearch_site.body_limit import BodyLimit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.production")

_MULTIPART_OVERHEAD = 2**20

application = BodyLimit(
    get_asgi_application(), settings.UPLOAD_CHUNK_MAX_BYTES + _MULTIPART_OVERHEAD
)
