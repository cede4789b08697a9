"""Pages of API lists."""

from typing import Any

from rest_framework.exceptions import NotFound
from rest_framework.pagination import PageNumberPagination

# The database counts rows in 64 bits; nobody's list comes near.
PAGE_MOST = 10**9


class Pages(PageNumberPagination):
    """`?page=2&page_size=100`, at most 200 a page."""

    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_number(self, request: Any, paginator: Any) -> Any:
        number = super().get_page_number(request, paginator)
        if str(number).isdecimal() and int(number) > PAGE_MOST:
            raise NotFound
        return number
