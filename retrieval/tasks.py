"""tasks of retrieval."""
