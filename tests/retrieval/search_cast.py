"""Makes slides that answer, and asks."""

from retrieval.selectors import search_results
from retrieval.services.search import search_run
from tests.factories import make_slide_image
from tests.retrieval.vectors import embed


def slides(department, model, *vectors):
    found = []
    for vector in vectors:
        slide_image = make_slide_image(department)
        embed(slide_image, model, vector)
        found.append(slide_image)
    return found


def answer(user, **question):
    query = search_run(user, **question)
    return [hit.slide_image for hit in search_results(query, user).hits]
