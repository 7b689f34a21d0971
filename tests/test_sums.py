import functools

import keras
import numpy as np
import pytest
from backend import as_numpy
from keras import ops

from mpt_keras import compilation, config, masking, sums

# Sums are what TensorFlow would rewrite.
pytestmark = pytest.mark.usefixtures("optimized_graphs")


@pytest.mark.parametrize("size", [1, 100, 8192, 8193, 20_000])
def test_blocks_add_up_to_the_sum(size, rng):
    values = rng.integers(-9, 9, size).astype("float32")
    total = sums.sum_in_blocks(ops.convert_to_tensor(values), ops)
    assert float(total) == values.sum()


@pytest.mark.parametrize("size", [1, 17, 8191, 8192, 8209, 300_001])
def test_means_are_the_same_in_every_form(size, xla, rng):
    kernel = rng.standard_normal(size).astype("float32")
    mask = rng.random(size) < 0.3
    mask[0] = True
    kept = np.float32(np.count_nonzero(mask))
    expected = sums.mean_kept(kernel, mask, kept, np)
    tensors = [ops.convert_to_tensor(x) for x in (kernel, mask, kept)]
    fuses = compilation.fuses()
    add_up = compilation.add_up if fuses else compilation.add_in_order
    function = compilation.fused(
        functools.partial(sums.mean_kept, numpy=ops, add_up=add_up)
    )
    forms = [
        sums.mean_kept(*tensors, ops),
        function(*tensors),
        compilation.call_in_graph(lambda: function(*tensors)),
    ]
    for found in forms:
        np.testing.assert_array_equal(as_numpy(found), expected)
    in_double = np.abs(kernel[mask].astype("float64")).mean()
    np.testing.assert_allclose(expected, in_double, rtol=3e-7)


@pytest.mark.parametrize("with_xla", [True, False])
@pytest.mark.parametrize(
    "shape", [(5, 7), (3, 3, 96, 1), (3, 3, 64, 128), (3, 3, 128, 256)]
)
def test_a_kernel_in_a_graph_has_the_bits_of_numpy(shape, with_xla, xla, rng):
    if not with_xla:
        config.disable_xla()
    kernel, scores = rng.standard_normal((2, *shape)).astype("float32")
    kept = kernel.size // 3
    mask = np.argsort(np.argsort(-np.abs(scores), None)).reshape(shape) < kept
    gain = sums.mean_kept(kernel, mask, np.float32(kept), np)
    # A variable, by which TensorFlow cannot divide beforehand.
    variable = keras.Variable(kept, dtype="int32", trainable=False)

    def in_graph():
        return masking.masked_kernel(scores, kernel, ops.copy(variable))

    np.testing.assert_array_equal(
        as_numpy(compilation.call_in_graph(in_graph)),
        np.where(mask, np.sign(kernel) * gain, np.float32(0.0)),
    )


def by_sixteenths(numbers):
    """As docs/ticket_format.md says it."""
    while len(numbers) > 1:
        width = -(-len(numbers) // 16)
        sums_of_them = []
        for first in range(width):
            total = numbers[first]
            for number in numbers[first + width :: width]:
                total = np.float32(total + number)
            sums_of_them.append(total)
        numbers = sums_of_them
    return numbers[0]


@pytest.mark.parametrize("size", [1, 16, 17, 8192, 9000, 17_000])
def test_the_order_of_a_mean_is_that_of_the_ticket_format(size, rng):
    kernel = rng.standard_normal(size).astype("float32")
    mask = rng.random(size) < 0.6
    mask[-1] = True
    kept = np.float32(np.count_nonzero(mask))
    numbers = np.abs(kernel) * mask
    whole = size // 8192 * 8192
    parts = []
    if whole:
        columns = np.zeros((whole // 8192, 1024), "float32")
        for block, rows in enumerate(numbers[:whole].reshape(-1, 8, 1024)):
            for row in rows:
                columns[block] += row
        parts.append(by_sixteenths(list(columns.ravel())))
    if size > whole:
        parts.append(by_sixteenths(list(numbers[whole:])))
    total = parts[0] if len(parts) == 1 else np.float32(parts[0] + parts[1])
    expected = np.float32(total / kept)
    assert sums.mean_kept(kernel, mask, kept, np) == expected
