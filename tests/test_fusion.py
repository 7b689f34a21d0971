import numpy as np
import pytest
from backend import NAME, as_numpy, examples, needs_tensorflow, tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from mpt_keras import _fusion, config


@needs_tensorflow
def test_xla_is_noticed_while_tracing():
    seen = {}

    def note(name, value):
        seen[name] = _fusion.compiled_by_xla()
        return value

    @tf.function
    def plain(x):
        return note("plain", x)

    @tf.function(jit_compile=True)
    def compiled(x):
        return tf.function(lambda y: note("inside", y))(note("compiled", x))

    plain(tf.constant(1.0))
    compiled(tf.constant(1.0))
    note("eager", None)
    assert seen == {
        "plain": False,
        "compiled": True,
        "inside": True,
        "eager": False,
    }


@pytest.fixture
def scaled(xla):
    """A fused function, and the list of the times that it was traced."""
    traces = []

    @_fusion.fused
    def scale(x, y, by=1.0):
        traces.append(x.shape)
        return by * x * y

    return scale, traces


def xla_calls(function, *args):
    """The calls in a graph of functions that XLA is to compile on their own."""
    operations = function.get_concrete_function(*args).graph.get_operations()
    return [
        operation.name
        for operation in operations
        if operation.node_def.attr["_XlaMustCompile"].b
    ]


@needs_tensorflow
def test_a_graph_compiles_a_fused_function_once_per_signature(scaled):
    scale, traces = scaled
    x, y = tf.constant([1.0, 2.0]), tf.constant([3.0])

    @tf.function
    def graph(x, y):
        return scale(x, x), scale(2.0 * x, x), scale(y, y), scale(y, y, by=2.0)

    results = graph(x, y)
    np.testing.assert_array_equal(results[0], [1, 4])
    np.testing.assert_array_equal(results[1], [2, 8])
    np.testing.assert_array_equal(results[2], [9])
    np.testing.assert_array_equal(results[3], [18])
    assert len(xla_calls(graph, x, y)) == 4
    assert len(traces) == 3

    tf.function(lambda x: scale(x, x))(x)
    assert len(traces) == 3


@needs_tensorflow
def test_eagerly_and_under_xla_a_fused_function_is_called_as_it_is(scaled):
    scale, _ = scaled
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(scale(x, x), [1, 4])
    compiled = tf.function(scale, jit_compile=True)
    np.testing.assert_array_equal(compiled(x, x), [1, 4])
    # The whole graph is XLA's; there is no function in it to be compiled.
    assert not xla_calls(compiled, x, x)


@needs_tensorflow
def test_without_xla_a_fused_function_is_called_as_it_is(scaled):
    scale, _ = scaled
    x = tf.constant([1.0, 2.0])
    graph = tf.function(lambda x: scale(x, x))
    config.disable_xla()
    assert not xla_calls(graph, x)
    np.testing.assert_array_equal(graph(x), [1, 4])
    # What has been traced stays as it is.
    config.enable_xla()
    assert not xla_calls(graph, x)
    assert xla_calls(tf.function(lambda x: scale(x, x)), x)


@pytest.mark.skipif(NAME != "jax", reason="needs the JAX backend")
def test_jax_compiles_a_function_once_per_signature(scaled):
    scale, traces = scaled
    x, y = ops.ones((2,)), ops.ones((3,))
    for _ in range(2):  # eagerly
        np.testing.assert_array_equal(scale(x, x), [1, 1])
        np.testing.assert_array_equal(scale(y, y, by=2.0), [2, 2, 2])
    assert traces == [(2,), (3,)]


@settings(max_examples=examples(100), deadline=None)
@given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=100))
def test_lanes_add_up_to_the_sum(values):
    lanes = _fusion.sum_in_lanes(
        lambda part: ops.cast(part, "int8") * 2,
        ops.convert_to_tensor(np.array(values, "int32")),
    )
    assert tuple(lanes.shape) == (-(-len(values) // 16),)
    assert int(as_numpy(lanes).astype("int32").sum()) == 2 * sum(values)


@pytest.mark.parametrize("size", [1, 100, 8192, 8193, 20_000])
def test_blocks_add_up_to_the_sum(size, rng):
    values = rng.integers(-9, 9, size).astype("float32")
    chosen = rng.random(size) < 0.5
    total = _fusion.sum_in_blocks(
        lambda values, chosen: ops.where(chosen, 2.0 * values, 0.0),
        ops.convert_to_tensor(values),
        ops.convert_to_tensor(chosen),
    )
    assert float(total) == 2 * values[chosen].sum()
