"""Search at 10^4, 10^5 and 10^6 slides; see `__main__`."""
