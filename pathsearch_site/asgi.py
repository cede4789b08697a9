"""ASGI entry: uvicorn serves it. (WSGI servers lose chunked request bodies without a word.)"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.production")

application = get_asgi_application()
