"""admin of cases."""
