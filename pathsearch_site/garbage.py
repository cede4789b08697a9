"""Python's collector of garbage, told what will stay.

A full collection looks at every object of the process: some hundred thousand of code, models and
URLs, which never become garbage, take it 0.1 s, in the middle of whatever a reader has asked. It is
told to leave them alone, and to wait a little longer between small collections, since the rows
of one search are some ten thousand objects (`python -m benchmarks.search_scale` has the same).
"""

import gc

_YOUNG, _MIDDLE, _OLD = 10_000, 20, 20


def settle() -> None:
    """Take what is there now for what stays. Call it once, when everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
