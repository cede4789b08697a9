"""Retrieval: embeddings of slides and reports, and the search over them."""
