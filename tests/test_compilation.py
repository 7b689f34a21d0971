import numpy as np
import pytest
from backend import NAME, needs_tensorflow, tf
from keras import ops

from mpt_keras import compilation, config


@pytest.fixture
def scaled(xla):
    """A fused function, and the list of the times that it was traced."""
    traces = []

    @compilation.fused
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
def test_eagerly_and_in_a_graph_of_xla(scaled):
    scale, _ = scaled
    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(scale(x, x), [1, 4])
    compiled = tf.function(lambda x, y: scale(x, y), jit_compile=True)
    np.testing.assert_array_equal(compiled(x, x), [1, 4])
    described = compiled.experimental_get_compiler_ir(x, x)
    assert "custom-call" not in described(stage="hlo")


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


def test_arrays_of_any_memory_become_tensors():
    memory = np.zeros(4 * 100 + 64, "uint8")
    for start in range(-memory.ctypes.data % 64, 64, 4):
        array = memory[start : start + 400].view("float32")
        array[:] = np.arange(100)
        for given in (array, array[::2], array.reshape(10, 10).T):
            expected = given.copy()
            tensor = compilation.as_tensor(given)
            np.testing.assert_array_equal(tensor + 1.0, expected + 1.0)
    array = np.arange(100, dtype="float32")
    array.flags.writeable = False
    np.testing.assert_array_equal(compilation.as_tensor(array), array)
