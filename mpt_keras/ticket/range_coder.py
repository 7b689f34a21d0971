"""Bits to bytes and back, at the length that their probabilities allow.

The range coder of `constriction`: a state of 64 bits, words of 32, and
probabilities of 24. docs/ticket_format.md defines it without the library.
"""

import functools

import numpy as np

PRECISION = 24
TOTAL = 1 << PRECISION

NOT_ENCODED = (
    "Expected an entropy-coded stream. Received words that no encoder writes."
)
WORDS_LEFT = (
    "Expected the end of an entropy-coded stream. Received: more words than "
    "its bits need."
)


@functools.cache
def _stream():
    """Constriction's; not imported where compiled code decodes."""
    import constriction

    return constriction.stream


@functools.cache
def _bernoullis():
    """Of probabilities that come with the bits."""
    return _stream().model.Bernoulli(perfect=False)


def zero_weights_to_floats(weights):
    """What to tell constriction, so that a 0 weighs exactly this much.

    From a probability `p` of a 1 it makes the weight of a 0
    `floor((1 - p) * (2**24 - 2)) + 1`. Here `1 - p = k / 2**24`, so that every
    step is exact and the weight is `k` up to `k = 2**23`, and then `k - 1`.

    Args:
        weights: Integer array, values in [1, 2**24).

    Returns:
        float32 array of the same shape.
    """
    weights = np.asarray(weights, "int64")
    k = weights + (weights > TOTAL // 2)
    return ((TOTAL - k) / TOTAL).astype("float32")


def check_whole_words(data: bytes) -> None:
    """Raises `ValueError` for bytes that are no words of four bytes."""
    if len(data) % 4:
        raise ValueError(
            "Expected whole words of four bytes in an entropy-coded stream. "
            f"Received: {len(data)} bytes."
        )


def _bernoulli(probability):
    return _stream().model.Bernoulli(float(probability), perfect=False)


class Encoder:
    """Takes bits and how likely they are."""

    def __init__(self):
        self._coder = _stream().queue.RangeEncoder()

    def encode(self, bits, probabilities):
        """Appends bits; probabilities are `zero_weights_to_floats` or one."""
        bits = bits.astype("int32")
        if np.ndim(probabilities):
            self._coder.encode(bits, _bernoullis(), probabilities)
        else:
            self._coder.encode(bits, _bernoulli(probabilities))

    def finish(self) -> bytes:
        """All of it, as little-endian words of four bytes."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Gives the bits back, in the same order.

    Args:
        data: Bytes, a multiple of four of them.
    """

    def __init__(self, data: bytes):
        check_whole_words(data)
        words = np.frombuffer(data, "<u4").astype("uint32")
        self._coder = _stream().queue.RangeDecoder(words)

    def decode(self, probabilities, count=None):
        """The next bits, int32, one per probability or `count` of them."""
        if count is None:
            arguments = _bernoullis(), probabilities
        else:
            arguments = _bernoulli(probabilities), count
        try:
            return self._coder.decode(*arguments)
        except AssertionError as error:
            raise ValueError(NOT_ENCODED) from error

    def finish(self):
        """Raises `ValueError` if there is more than has been decoded."""
        if not self._coder.maybe_exhausted():
            raise ValueError(WORDS_LEFT)
