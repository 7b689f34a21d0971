"""Settings of the library: whether it lets XLA compile its own functions."""

import os

__all__ = ["disable_xla", "enable_xla", "is_xla_enabled"]

_xla = os.environ.get("MPT_KERAS_XLA", "1") != "0"


def enable_xla() -> None:
    """Lets XLA compile selection and masking, on TensorFlow; the default.

    A masked layer reads its scores several times in every step, and XLA fuses
    the operations of such a pass. A step of ResNet-18 at batch 32 took 1.05 to
    1.06 times as long as the plain network's, and 1.11 to 1.16 without XLA;
    its first step took 3.4 s longer than the plain one's, 2.1 s without XLA
    (`benchmarks/training_step.py`, `first_step.py`, AMD EPYC, two cores). Masks
    are the same to the bit, and gains up to rounding.

    A graph stays as it was traced: call this before a model's first step, or
    compile the model again. On JAX everything is XLA's anyway, and on PyTorch
    nothing is.

    Example:

    >>> mpt_keras.config.enable_xla()
    >>> mpt_keras.config.is_xla_enabled()
    True
    """
    global _xla
    _xla = True


def disable_xla() -> None:
    """Computes selection and masking by TensorFlow's plain operations.

    For devices that XLA does not know, and for debugging; see `enable_xla`.
    The environment variable `MPT_KERAS_XLA=0` does the same for a whole
    process. A model that is compiled with `jit_compile=True` goes to XLA as a
    whole nevertheless.

    Example:

    >>> mpt_keras.config.disable_xla()
    >>> mpt_keras.config.is_xla_enabled()
    False
    >>> mpt_keras.config.enable_xla()
    """
    global _xla
    _xla = False


def is_xla_enabled() -> bool:
    """Whether functions traced from now on are compiled by XLA.

    Example:

    >>> mpt_keras.config.enable_xla()
    >>> mpt_keras.config.is_xla_enabled()
    True
    """
    return _xla
