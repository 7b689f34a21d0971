"""Checks of values, where there are any: not while a function is traced."""

import numpy as np
from keras import ops

from mpt_keras import compilation


def are_all_zero(values) -> bool:
    """Whether a tensor holds nothing but 0; False where it is traced."""
    values = ops.convert_to_tensor(values)
    return not compilation.is_traced(values) and not ops.any(values)


def check_no_nan(values, where="", what="scores"):
    """Raises `ValueError` if a tensor holds a NaN, unless it is traced."""
    values = ops.convert_to_tensor(values)
    if compilation.is_traced(values):
        return
    values = np.asarray(ops.convert_to_numpy(values), "float32")
    count = int(np.isnan(values).sum())
    if count:
        raise ValueError(
            f"Expected numbers, because {what} are ranked or kept as they "
            f"are. Received {count} NaN of {values.size} {what}{where}. If "
            "training made "
            "them, lower the learning rate or clip the gradients "
            "(`clipnorm`), and stop early with "
            "`keras.callbacks.TerminateOnNaN`."
        )
