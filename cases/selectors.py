"""selectors of cases."""
