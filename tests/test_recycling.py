"""Iterative weight recycling against the rule written out in plain Python."""

import backend
import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import mpt_keras as mpt
from mpt_keras import weight_recycling

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def by_the_rule(kernel, scores, fraction, source):
    """Weight by weight, without sorting arrays."""
    n = scores.size
    count = int(fraction * n + 1e-9)
    ranked = sorted(range(n), key=lambda i: (abs(scores.flat[i]), i))
    first = n - count if source == "highest" else count
    result = kernel.copy()
    for rank in range(count):
        result.flat[ranked[rank]] = kernel.flat[ranked[first + rank]]
    return result


@hypothesis.given(
    size=st.integers(1, 60),
    fraction=st.floats(0.01, 0.5),
    source=st.sampled_from(["highest", "next_lowest"]),
    ties=st.booleans(),
    seed=st.integers(0, 2**16),
)
@hypothesis.settings(deadline=None, max_examples=50)
def test_recycled_follows_the_rule(size, fraction, source, ties, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(size, 1)).astype("float32")
    scores = rng.normal(size=(size, 1)).astype("float32")
    if ties:
        scores = np.round(scores)
    before = kernel.copy()
    new = weight_recycling.recycled(kernel, scores, fraction, source)
    np.testing.assert_array_equal(
        new, by_the_rule(kernel, scores, fraction, source)
    )
    np.testing.assert_array_equal(kernel, before)


def test_the_lowest_receives_the_weakest_of_the_highest():
    # The authors' order: the c-th lowest gets the most important of all.
    scores = np.array([0.0, -1.0, 2.0, -3.0, 4.0, 5.0])
    kernel = np.arange(6.0)
    new = weight_recycling.recycled(kernel, scores, 0.34)
    np.testing.assert_array_equal(new, [4, 5, 2, 3, 4, 5])
    new = weight_recycling.recycled(kernel, scores, 0.34, "next_lowest")
    np.testing.assert_array_equal(new, [2, 3, 2, 3, 4, 5])


def test_redrawn_replaces_pruned_weights_with_the_probability():
    mask = np.arange(40_000).reshape(200, 200) % 4 == 0
    kernel, drawn = np.zeros(mask.shape), np.ones(mask.shape)
    new = weight_recycling.redrawn(kernel, mask, 0.1, drawn, seed=(1, 2))
    assert new[mask].sum() == 0
    assert new[~mask].mean() == pytest.approx(0.1, abs=0.006)
    again = weight_recycling.redrawn(kernel, mask, 0.1, drawn, seed=(1, 2))
    np.testing.assert_array_equal(new, again)
    other = weight_recycling.redrawn(kernel, mask, 0.1, drawn, seed=(1, 3))
    assert not np.array_equal(new, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 0.0}, r"fraction.*\(0, 0.5\].*Received: fraction=0.0"),
        ({"fraction": 0.51}, "beyond one half"),
        ({"fraction": "a"}, "fraction='a'"),
        ({"fraction": float("nan")}, "fraction=nan"),
        ({"fraction": 1.5, "source": "random"}, r"\(0, 1\]"),
        ({"source": "lowest"}, "source='lowest'"),
        ({"every": 0}, "integer from 1 on.*every=0"),
        ({"every": 2.5}, "every=2.5"),
        ({"after": -1}, "after=-1"),
        ({"per": "batch"}, "per='batch'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mpt.callbacks.WeightRecycling(**arguments)


def network(binarize=True, **options):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            mpt.MPTConv2D(
                6, 3, sparsity=0.8, binarize=binarize, seed=1, name="one"
            ),
            keras.layers.Flatten(),
            mpt.MPTDense(
                4,
                sparsity=0.5,
                binarize=binarize,
                seed=2,
                name="two",
                **options,
            ),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
    return model


def data():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(24, 6, 6, 2)).astype("float32")
    return images, (np.arange(24) % 4).astype("int32")


def fit(model, *callbacks, epochs=1, **options):
    model.fit(
        *data(),
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def kernels(model):
    return [
        backend.as_numpy(layer.kernel) for layer in mpt.masked_layers(model)
    ]


class Times(keras.callbacks.Callback):
    """When the kernels are others than before, in epochs and steps."""

    def __init__(self):
        super().__init__()
        self.epochs, self.steps, self._step = [], [], 0

    def on_train_begin(self, logs=None):
        self._last = kernels(self.model)

    def changed(self):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        now = kernels(self.model)
        pairs = zip(now, self._last, strict=True)
        same = all(np.array_equal(a, b) for a, b in pairs)
        self._last = now
        return not same

    def on_epoch_begin(self, epoch, logs=None):
        if self.changed():
            self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self.changed():
            self.steps.append(self._step)


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        # At the end of epochs 2 and 4; seen when the next one begins. Not
        # after epoch 0, and not after the last one, 6.
        ({"every": 2}, [3, 5]),
        ({"every": 1}, [2, 3, 4, 5, 6]),
        ({"every": 1, "after": 3}, [5, 6]),
        ({"every": 10}, []),
    ],
)
def test_the_epochs(options, epochs):
    times = Times()
    fit(
        network(),
        mpt.callbacks.WeightRecycling(0.3, **options),
        times,
        epochs=7,
    )
    assert (times.epochs, times.steps) == (epochs, [])


def test_the_steps():
    # Three to an epoch; before step 4 (counted from 1), 8, ...
    times = Times()
    recycle = mpt.callbacks.WeightRecycling(0.3, every=4, per="step")
    fit(network(), recycle, times, epochs=3)
    assert times.steps == [4, 8]
    assert times.epochs == []


@backend.not_on_torch
def test_several_steps_at_a_time():
    model = network()
    model.compile("sgd", LOSS, steps_per_execution=3)
    times = Times()
    recycle = mpt.callbacks.WeightRecycling(0.3, every=4, per="step")
    fit(model, recycle, times, epochs=4)
    assert len(times.steps) == 3  # 4, 8 and 12, in the second to the fourth


@pytest.mark.parametrize("binarize", [True, False])
def test_only_kernels_change_and_only_as_the_rule_says(binarize):
    model = network(binarize)
    callback = mpt.callbacks.WeightRecycling(0.2, every=1)
    fit(model, epochs=2)
    before = [backend.as_numpy(v) for v in model.variables]
    old = kernels(model)
    scores = [
        backend.as_numpy(layer.scores) for layer in mpt.masked_layers(model)
    ]
    state = [backend.as_numpy(v) for v in model.optimizer.variables]
    callback.set_model(model)
    callback.on_epoch_begin(2)
    for layer, kernel, score in zip(
        mpt.masked_layers(model), old, scores, strict=True
    ):
        np.testing.assert_array_equal(
            layer.kernel, by_the_rule(kernel, score, 0.2, "highest")
        )
    changed = [
        variable
        for variable, value in zip(model.variables, before, strict=True)
        if not np.array_equal(backend.as_numpy(variable), value)
    ]
    layers = mpt.masked_layers(model)
    assert [id(variable) for variable in changed] == [
        id(layer.kernel) for layer in layers
    ]
    for variable, value in zip(model.optimizer.variables, state, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_random_draws_from_the_layers_initializer_where_it_is_pruned():
    model = network(kernel_initializer=keras.initializers.RandomUniform(7, 8))
    callback = mpt.callbacks.WeightRecycling(1.0, 1, "random", seed=5)
    fit(model, epochs=2)
    layer = mpt.masked_layers(model)[1]
    layer.kernel.assign(np.zeros(layer.kernel.shape, "float32"))
    mask = backend.as_numpy(layer.mask())
    callback.set_model(model)
    callback.on_epoch_begin(2)
    new = backend.as_numpy(layer.kernel)
    assert (new[mask] == 0).all()
    assert ((new[~mask] >= 7) & (new[~mask] <= 8)).all()
    assert len(np.unique(new[~mask])) > 60


def test_random_needs_an_initializer_with_a_seed():
    model = network(kernel_initializer="ones")
    callback = mpt.callbacks.WeightRecycling(0.1, 1, "random")
    with pytest.raises(ValueError, match=r"with a seed.*\(layer 'two'\)"):
        fit(model, callback)


def test_a_model_without_masked_layers():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="WeightRecycling needs a model with"):
        mpt.callbacks.WeightRecycling().set_model(model)


@pytest.mark.parametrize("source", ["highest", "random"])
def test_a_resumed_run_recycles_as_one_without_interruption(source, tmp_path):
    def callbacks(folder):
        return [
            mpt.callbacks.WeightRecycling(0.3, 2, source, seed=3),
            mpt.callbacks.AtomicBackup(tmp_path / folder, run={}),
        ]

    whole, stopped, resumed = network(), network(), network()
    fit(whole, *callbacks("whole"), epochs=6)
    fit(stopped, *callbacks("parts"), epochs=3)
    fit(resumed, *callbacks("parts"), epochs=6)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_recycled_tickets_are_saved_and_frozen_right(tmp_path):
    model = network()
    fit(model, mpt.callbacks.WeightRecycling(0.4, every=1), epochs=4)
    images, _ = data()
    expected = model.predict_on_batch(images)
    # The seed's kernels would predict otherwise.
    seeds = network()
    for variable, trained in zip(seeds.weights, model.weights, strict=True):
        if not variable.path.endswith("kernel"):
            variable.assign(backend.as_numpy(trained))
    assert np.abs(seeds.predict_on_batch(images) - expected).max() > 1e-2
    model.save(tmp_path / "recycled.keras")
    loaded = keras.models.load_model(tmp_path / "recycled.keras")
    for found in (loaded, mpt.freeze(model), mpt.freeze(loaded)):
        np.testing.assert_array_equal(found.predict_on_batch(images), expected)


def test_the_arrays_keep_their_type_and_the_fraction_its_value():
    a = np.arange(100.0)
    for fraction in (0.29, np.float32(0.29)):
        assert (weight_recycling.recycled(a, a, fraction) != a).sum() == 29
    drawn = weight_recycling.redrawn(
        np.zeros(4, "float32"), np.zeros(4, bool), 1.0, np.ones(4), (0,)
    )
    assert drawn.dtype == "float32"
    with pytest.raises(ValueError, match="or `redrawn`"):
        weight_recycling.recycled(a, a, 0.4, "random")
