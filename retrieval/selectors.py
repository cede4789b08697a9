"""selectors of retrieval."""
