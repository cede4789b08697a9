"""admin of retrieval."""
