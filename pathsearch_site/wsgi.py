"""WSGI entry, for tools that ask for one. Serve by ASGI: chunked uploads arrive empty over WSGI."""

import os

from django.core.wsgi import get_wsgi_application

# Requests are answered beside each other: a thread of NumPy's own for each core would have them
# wait for one another, for products that take less than the waiting. Before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.production")

application = get_wsgi_application()
