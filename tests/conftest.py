"""Shared fixtures. Only here do the tests import a private Keras module."""

import importlib
import os
import pathlib
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase as KerasTestCase

ROOT = pathlib.Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def run_layer_test():
    """Keras' own test of a layer's contract."""

    def run(*args, **kwargs):
        with warnings.catch_warnings():
            # It trains from a generator and leaves `shuffle` at its default,
            # and trains layers that have nothing to train.
            warnings.filterwarnings("ignore", "`shuffle=True` was passed")
            warnings.filterwarnings("ignore", "The model does not have any")
            KerasTestCase("run_layer_test").run_layer_test(*args, **kwargs)

    return run


@pytest.fixture
def example(monkeypatch):
    """Imports a module of the examples by name, with its flags at defaults."""
    flags = pytest.importorskip("absl.flags").FLAGS
    from absl.testing import flagsaver

    monkeypatch.syspath_prepend(ROOT / "examples")
    for module in (
        "experiment",
        "sparsity_flag",
        "sweep",
        "compare_masks",
    ):  # define flags
        importlib.import_module(module)
    flags.mark_as_parsed()
    with flagsaver.flagsaver():
        yield importlib.import_module


@pytest.fixture
def run_error(example):
    """What the examples raise where a user must do something."""
    return example("command").RunError


def shared_folder(name):
    """A folder of data that is not part of the project, or a reason to skip."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs the folder {name}/ beside the checkout")
    return path
