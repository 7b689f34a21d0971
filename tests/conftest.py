"""Shared fixtures. Only here do the tests import a private Keras module.

Keras is imported where it is used: the process that hands out the tests needs
none of it.
"""

import gc
import os
import pathlib
import tempfile
import warnings

# These also reach the processes that tests start. One thread for each: as many
# run side by side as there are cores.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for _pool in ("OMP_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"):
    os.environ.setdefault(f"{_pool}_THREADS", "1")

# What runs for a moment need not be compiled as well as XLA can.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Kernels are compiled once, for all processes, and not into the user's folder.
os.environ.setdefault(
    "MPT_KERAS_CACHE",
    f"{tempfile.gettempdir()}/mpt_keras-tests-{getattr(os, 'getuid', str)()}",
)

import effort
import progress
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.hookimpl(trylast=True)  # after the terminal's own
def pytest_configure(config):
    progress.register(config)


def pytest_collection_finish():
    gc.freeze()  # what has been imported is no garbage to look through


@pytest.fixture(scope="session", autouse=True)
def _plain_graphs():
    """Graphs as they were traced, unless a module wants them as users do."""
    import backend

    backend.optimize_graphs(effort.THOROUGH)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory):
    """JAX takes what it has compiled for another model from a folder.

    Of this process alone: another might read what is half written.
    """
    if os.environ.get("KERAS_BACKEND") == "jax":
        import jax

        folder = tmp_path_factory.mktemp("jax")
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="module")
def optimized_graphs():
    """Graphs that TensorFlow rewrites, as it does for users."""
    import backend

    backend.optimize_graphs(True)
    yield
    backend.optimize_graphs(effort.THOROUGH)


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.set_random_seed(0)
    yield
    # Without looking for garbage, which after every test takes longer than
    # the tests; Python does it when it has to.
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def xla():
    """XLA compiles our own functions, unless the test switches it off."""
    from mpt_keras import config

    before = config.is_xla_enabled()
    config.enable_xla()
    yield
    (config.enable_xla if before else config.disable_xla)()


@pytest.fixture
def rng():
    import numpy as np

    return np.random.default_rng(0)


@pytest.fixture
def no_draws(monkeypatch):
    """Weights are zeros: a network may have a hundred million of them."""
    from keras import ops

    from mpt_keras import initializers

    def zeros(self, shape, dtype=None, **_):
        return ops.zeros(shape, dtype)

    monkeypatch.setattr(initializers.PhiloxInitializer, "__call__", zeros)


@pytest.fixture
def run_layer_test():
    """Keras' own test of a layer's contract."""
    from keras.src.testing import TestCase as KerasTestCase

    def run(*args, **kwargs):
        with warnings.catch_warnings():
            # It trains from a generator and leaves `shuffle` at its default,
            # and trains layers that have nothing to train.
            warnings.filterwarnings("ignore", "`shuffle=True` was passed")
            warnings.filterwarnings("ignore", "The model does not have any")
            KerasTestCase("run_layer_test").run_layer_test(*args, **kwargs)

    return run


def data_dir():
    """The folder of TensorFlow Datasets with real images, or a skip."""
    if "MPT_KERAS_DATA_DIR" not in os.environ:
        pytest.skip("needs MPT_KERAS_DATA_DIR, a folder with a cifar10")
    return os.environ["MPT_KERAS_DATA_DIR"]
