"""WSGI entry, for tools that ask for one. Serve by ASGI: chunked uploads arrive empty over WSGI."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.production")

application = get_wsgi_application()
