"""Keeps what a path may name (an accession number, a file) out of the logs."""

import logging

from django.urls import Resolver404, resolve


class RouteForPath(logging.Filter):
    """Say the route instead of the path in Django's own lines about a request.

    Django logs refused and failed requests with their path, and some paths name a case by its
    accession number. The request's id, which its answer and its access events carry, tells
    which request it was.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        path = getattr(request, "path", "")
        if path and record.args:
            named = _route(path)
            arguments = record.args if isinstance(record.args, tuple) else (record.args,)
            record.args = tuple(
                _without(argument, path, named) if isinstance(argument, str) else argument
                for argument in arguments
            )
        return True


def _without(text: str, path: str, named: str) -> str:
    # Django writes what is not plain ASCII, and line breaks, as escapes.
    escaped = path.encode("unicode_escape").decode("ascii")
    return text.replace(path, named).replace(escaped, named)


def _route(path: str) -> str:
    try:
        return f"/{resolve(path).route}"
    except Resolver404:
        return "(no route)"
