"""Types and small value rules that the readers share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
"""uint8 (height, width, 3), RGB."""
