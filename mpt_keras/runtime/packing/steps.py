"""Steps, as the fields of the kernels that take them."""

import numpy as np

from mpt_keras.runtime.operations import Steps
from mpt_keras.runtime.program import Field


def step_fields(steps: Steps) -> dict[str, Field]:
    """The fields that `MPT_STEPS` of `kernels/steps.h` declares."""
    rectifier = steps.rectifier
    slope = 0.0 if rectifier is None else rectifier.slope
    per_channel = isinstance(slope, np.ndarray)
    return {
        "scale": _table(steps.scale),
        "offset": _table(steps.offset),
        "slopes": _table(slope) if per_channel else None,
        "slope": 0.0 if per_channel else float(slope),
        "threshold": 0.0 if rectifier is None else float(rectifier.threshold),
        "high": 0.0 if rectifier is None else float(rectifier.high),
        "rectifies": rectifier is not None,
    }


def _table(numbers):
    if numbers is None:
        return None
    return np.ascontiguousarray(numbers, "float32").ravel()
