"""Winning tickets: exact counts, exact zeros, exact rewinding."""

import fractions
import json

import backend
import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops

import mpt_keras as mpt
from mpt_keras import lottery
from mpt_keras.lottery import kernels, rewinding

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# --- How many, and which ----------------------------------------------------


def kept_by_formula(n, rate, rounds):
    """n - floor((1 - (1 - p)**i) * n), in exact arithmetic."""
    left = (1 - fractions.Fraction(rate)) ** rounds
    return n - int((1 - left) * n)


@pytest.mark.parametrize("rate", ["0.2", "0.1", "0.15", "0.5"])
@pytest.mark.parametrize("n", [5, 1000, 30_000, 235_200])
def test_counts_after_rounds_are_the_formulas_to_the_unit(n, rate):
    rng = np.random.default_rng(n)
    weights = {"hidden": rng.normal(size=n), "last": rng.normal(size=(n, 2))}
    pruning = lottery.Magnitude(float(rate))
    masks = None
    for rounds in range(13):
        masks = pruning.masks(weights, rounds, masks)
        half = fractions.Fraction(rate) / 2
        assert masks["hidden"].sum() == kept_by_formula(n, rate, rounds)
        assert masks["last"].sum() == kept_by_formula(2 * n, half, rounds)
        for name in weights:  # the next training
            weights[name] = rng.normal(size=weights[name].shape)


def test_global_counts_are_those_of_all_weights_together():
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 5, 7), "hidden": (40, 30), "last": (30, 10)}
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    pruning = lottery.Magnitude(0.2, "global")
    masks = None
    for rounds in range(10):
        weights = {k: rng.normal(size=shape) for k, shape in shapes.items()}
        before, masks = masks, pruning.masks(weights, rounds, masks)
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert kept == kept_by_formula(total, "0.2", rounds)
        if before:
            assert all((masks[k] <= before[k]).all() for k in masks)


@hypothesis.given(
    data=st.data(),
    size=st.integers(1, 40),
    scope=st.sampled_from(["layer", "global"]),
)
@hypothesis.settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore:No weight of")
def test_masks_keep_the_largest_of_the_survivors(data, size, scope):
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    # Rounded, so that many are equal, and some survivors are 0.
    weights = {
        name: np.round(rng.normal(size=shape), 1)
        for name, shape in {"a": (size,), "b": (size, 2)}.items()
    }
    first = data.draw(st.floats(0, 0.9))
    second = data.draw(st.floats(first, 0.95))
    before = lottery.magnitude_masks(
        {name: rng.normal(size=w.shape) for name, w in weights.items()},
        first,
        scope=scope,
    )
    masks = lottery.magnitude_masks(weights, second, before, scope)
    groups = [["a"], ["b"]] if scope == "layer" else [["a", "b"]]
    for names in groups:
        flat = [
            (bool(before[k].flat[i]), abs(weights[k].flat[i]))
            for k in names
            for i in range(weights[k].size)
        ]
        ranked = sorted(range(len(flat)), key=lambda i: (*flat[i], i))
        exact = fractions.Fraction(second) * len(flat)
        pruned = min(int(exact + fractions.Fraction(1, 10**9)), len(flat) - 1)
        expected = np.ones(len(flat), bool)
        expected[ranked[:pruned]] = False
        found = np.concatenate([masks[k].ravel() for k in names])
        np.testing.assert_array_equal(found, expected)


def test_rates_of_kernels():
    names = ["conv", "hidden", "last"]
    rates = lottery.Magnitude(0.2).rates_of(names)
    assert rates == {"conv": 0.2, "hidden": 0.2, "last": 0.1}
    rates = lottery.Magnitude(0.2, convolution_rate=0.1).rates_of(
        names, convolutions=["conv"]
    )
    assert rates == {"conv": 0.1, "hidden": 0.2, "last": 0.1}
    rates = lottery.Magnitude(
        0.2, output_rate=0, rates={"hidden": 0.5}
    ).rates_of(names)
    assert rates == {"conv": 0.2, "hidden": 0.5, "last": 0}
    rates = lottery.Magnitude(0.2, "global").rates_of(names)
    assert set(rates.values()) == {0.2}


def test_the_output_has_its_own_rate():
    names = ["a", "b", "c"]
    rates = lottery.Magnitude(0.2, output="a").rates_of(names)
    assert rates == {"a": 0.1, "b": 0.2, "c": 0.2}
    rates = lottery.Magnitude(0.2, output_rate=0).rates_of(names, outputs=["b"])
    assert rates == {"a": 0.2, "b": 0, "c": 0.2}
    with pytest.raises(ValueError, match=r"\['a', 'c'\]. Expected .* `output`"):
        lottery.Magnitude(0.2).rates_of(names, outputs=["a", "c"])
    pruning = lottery.Magnitude(0.2, rates={"a": 0.3})
    rates = pruning.rates_of(names, outputs=["a", "c"])
    assert rates == {"a": 0.3, "b": 0.2, "c": 0.1}
    rates = lottery.Magnitude(0.2, "global").rates_of(names, outputs=["a", "c"])
    assert set(rates.values()) == {0.2}
    with pytest.raises(ValueError, match=r"`output`.*\['a', 'b', 'c'\].*'d'"):
        lottery.Magnitude(output="d").rates_of(names)


def test_arrays_alone_are_no_convolutions():
    weights = {"a": np.ones((3, 3, 1, 2)), "b": np.ones((2, 2))}
    with pytest.raises(ValueError, match="Expected their rates by name"):
        lottery.Magnitude(0.5, convolution_rate=0.1).masks(weights, 1)


def test_a_rate_of_0_leaves_a_kernel_alone_in_the_common_threshold():
    rng = np.random.default_rng(0)
    weights = {k: rng.normal(size=100) for k in ("a", "b", "c")}
    pruning = lottery.Magnitude(0.5, "global", rates={"b": 0})
    masks = None
    for rounds in range(3):
        masks = pruning.masks(weights, rounds, masks)
        assert masks["b"].all()
        assert masks["a"].sum() + masks["c"].sum() == 200 // 2**rounds


def test_a_kernel_that_the_common_threshold_empties():
    weights = {"small": np.full(4, 1e-6), "large": np.ones(4) + np.arange(4)}
    with pytest.warns(UserWarning, match="No weight of 'small' is left"):
        masks = lottery.magnitude_masks(weights, 0.5, scope="global")
    assert masks["large"].all()


def test_random_masks_keep_as_many_elsewhere():
    rng = np.random.default_rng(0)
    masks = {"a": rng.random((50, 40)) < 0.1, "b": rng.random(900) < 0.7}
    found = lottery.random_masks(masks, seed=1)
    for name, mask in masks.items():
        assert found[name].sum() == mask.sum()
        assert not np.array_equal(found[name], mask)
    # As independent ones agree: k * k + (1 - k) * (1 - k).
    agreement = (found["b"] == masks["b"]).mean()
    assert agreement == pytest.approx(0.58, abs=0.05)
    again = lottery.random_masks(masks, seed=1)
    assert all(np.array_equal(found[k], again[k]) for k in masks)
    together = lottery.random_masks(masks, 1, "global")
    counts = [
        sum(int(m.sum()) for m in some.values()) for some in (masks, together)
    ]
    assert counts[0] == counts[1]
    assert together["a"].mean() == pytest.approx(counts[0] / 2900, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.0}, r"`rate`. Expected a number in \(0, 1\).*rate=0.0"),
        ({"rate": 1.0}, "rate=1.0"),
        ({"rate": -0.2}, "rate=-0.2"),
        ({"rate": "much"}, "rate='much'"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"output_rate": 1.5}, r"`output_rate`.*\[0, 1\)"),
        ({"rates": {"hidden": 2}}, r"rates\['hidden'\]=2"),
        ({"scope": "both"}, "scope='both'"),
        ({"scope": "global", "output_rate": 0.1}, "One threshold for all"),
    ],
)
def test_bad_rates(arguments, message):
    with pytest.raises(ValueError, match=message):
        lottery.Magnitude(**arguments)


def test_bad_rates_for_the_kernels():
    names = ["hidden", "last"]
    with pytest.raises(
        ValueError, match=r"out of \['hidden', 'last'\].*'other'"
    ):
        lottery.Magnitude(rates={"other": 0.1}).rates_of(names)
    nothing = lottery.Magnitude(rates={"hidden": 0, "last": 0})
    with pytest.raises(ValueError, match="nothing to prune"):
        nothing.rates_of(names)


def test_bad_weights_and_masks():
    weights = {"a": np.array([1.0, np.nan, 2.0])}
    with pytest.raises(ValueError, match="1 NaN of 3 weights in 'a'"):
        lottery.magnitude_masks(weights, 0.5)
    weights = {"a": np.arange(4.0)}
    with pytest.raises(ValueError, match="3 are pruned already"):
        lottery.magnitude_masks(weights, 0.5, {"a": np.arange(4) == 0})
    with pytest.raises(ValueError, match="no mask 'a'"):
        lottery.magnitude_masks(weights, 0.5, {"b": np.ones(4, bool)})
    with pytest.raises(ValueError, match="sparsity=1"):
        lottery.magnitude_masks(weights, 1)


# --- The kernels of models ----------------------------------------------------


def dense(name, units=4, **options):
    return keras.layers.Dense(units, name=name, **options)


def defined_before_it_is_used():
    """The output's layer is the first of the list."""
    inputs, last = keras.Input((3,)), dense("last")
    features = dense("second")(dense("first")(inputs))
    return keras.Model(inputs, keras.layers.Softmax()(last(features)))


def nested():
    """The output's layer stands in a model in a model."""
    inputs = keras.Input((3,))
    features = dense("last")(dense("inner")(inputs))
    inner = keras.Model(inputs, keras.ops.relu(features))
    return keras.Sequential(
        [keras.Input((3,)), dense("first", 3), inner, keras.layers.ReLU()]
    )


def nested_without_kernels():
    inputs = keras.Input((4,))
    tail = keras.Model(inputs, keras.layers.Softmax()(inputs))
    inputs = keras.Input((3,))
    return keras.Model(inputs, tail(dense("last")(dense("first")(inputs))))


def shared():
    """A layer that is called twice, the second time for the output."""
    inputs, last = keras.Input((4,)), dense("last")
    return keras.Model(inputs, last(dense("other")(last(inputs))))


def of_two_branches():
    inputs = keras.Input((3,))
    first = dense("a")(inputs)
    return keras.Model(inputs, keras.layers.Add()([dense("b")(first), first]))


def of_two_outputs():
    inputs = keras.Input((3,))
    features = dense("first")(inputs)
    return keras.Model(inputs, [dense("a")(features), dense("b")(features)])


def subclassed_around_a_graph():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.inside = shared()

        def call(self, inputs):
            return self.inside(inputs)

    model = Net()
    model(np.ones((2, 4)))
    return model


def separable():
    last = keras.layers.SeparableConv1D(2, 3, name="last")
    return keras.Sequential([keras.Input((9, 2)), last])


def subclassed():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = dense("first"), dense("last")

        def call(self, inputs):
            return self.last(self.first(inputs))

    model = Net()
    model(np.ones((2, 3)))
    return model


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (defined_before_it_is_used, ["last"]),
        (nested, ["last"]),
        (nested_without_kernels, ["last"]),
        (shared, ["last"]),
        (of_two_branches, ["b", "a"]),
        (of_two_outputs, ["a", "b"]),
        (separable, ["last/pointwise_kernel"]),
        (subclassed, ["last"]),
        (subclassed_around_a_graph, ["last"]),
    ],
)
def test_the_kernel_of_the_output(build, expected):
    assert kernels.output_kernels(build()) == expected


def test_a_search_knows_the_output_by_the_graph(tmp_path):
    search = lottery.TicketSearch(shared(), lambda *_: None, tmp_path / "a")
    *_, ticket = search.run(1)
    kept = {name: counts["kept"] for name, counts in ticket.layers.items()}
    # A fifth of 16, and a tenth.
    assert kept == {"other": 13, "last": 15}
    with pytest.raises(ValueError, match=r"\['a', 'b'\]. Expected one of them"):
        lottery.TicketSearch(of_two_outputs(), None, tmp_path / "b")
    pruning = lottery.Magnitude(output="b")
    lottery.TicketSearch(of_two_outputs(), None, tmp_path / "b", pruning)


def test_convolutions_are_layers_not_ranks(tmp_path):
    class MyConvolution(keras.layers.Conv1D):
        pass

    model = keras.Sequential(
        [
            keras.Input((12, 2)),
            MyConvolution(5, 2, name="conv"),
            keras.layers.SeparableConv1D(5, 2, name="separable"),
            keras.layers.DepthwiseConv1D(2, name="depthwise"),
            keras.layers.EinsumDense(
                "btc,chd->bthd", (9, 2, 5), name="projection"
            ),
            keras.layers.Flatten(),
            dense("last"),
        ]
    )
    rest = ["separable/depthwise_kernel", "separable/pointwise_kernel"]
    rest += ["depthwise"]
    assert kernels.convolution_kernels(model) == ["conv", *rest]
    pruning = lottery.Magnitude(
        0.5, convolution_rate=0, rates=dict.fromkeys(rest, 0.0)
    )
    search = lottery.TicketSearch(model, lambda *_: None, tmp_path, pruning)
    _, ticket = search.run(1)
    kept = {name: counts["kept"] for name, counts in ticket.layers.items()}
    assert (kept["conv"], kept["projection"]) == (20, 25)


# --- Held through training ---------------------------------------------------


def network(**options):
    """Convolutions of three kinds, batch norm, dropout, a nested model."""
    block = keras.Sequential(
        [
            keras.Input((4, 4, 4)),
            keras.layers.SeparableConv2D(
                5,
                2,
                depthwise_initializer=init(2),
                pointwise_initializer=init(3),
                name="separable",
            ),
            keras.layers.DepthwiseConv2D(
                2, depthwise_initializer=init(4), name="depthwise"
            ),
            keras.layers.Dropout(0.2, seed=5),
        ],
        name="block",
    )
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, name="conv", kernel_initializer=init(1)),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            block,
            keras.layers.Flatten(),
            keras.layers.Dense(
                8, activation="relu", name="hidden", kernel_initializer=init(6)
            ),
            keras.layers.Dense(
                4, name="last", kernel_initializer=init(7), **options
            ),
        ],
        name="net",
    )


def small_network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, name="hidden", kernel_initializer=init(1)),
            keras.layers.Dense(4, name="last", kernel_initializer=init(2)),
        ],
        name="small",
    )


def init(seed):
    return keras.initializers.GlorotNormal(seed=seed)


def data():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 6, 6, 2)).astype("float32")
    return images, (np.arange(40) % 4).astype("int32")


def values(model):
    return [backend.as_numpy(variable) for variable in model.variables]


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01, use_ema=True),
    "decay": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped": lambda: keras.optimizers.SGD(
        0.1, momentum=0.9, global_clipnorm=0.1, gradient_accumulation_steps=2
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_are_zero_after_every_step(optimizer):
    model = network(kernel_constraint=keras.constraints.MaxNorm(0.5))
    masks = lottery.Magnitude(0.2).masks(lottery.kernel_values(model), 6)
    # The optimizer has moved all weights before.
    model.compile(OPTIMIZERS[optimizer](), LOSS)
    model.fit(*data(), batch_size=8, epochs=1, verbose=0)
    before = lottery.kernel_values(model)
    lottery.apply_masks(model, masks)
    model.compile(OPTIMIZERS[optimizer](), LOSS)
    seen = []

    def look(*_, **__):
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
        now = lottery.kernel_values(model)
        seen.append(now)
        for name, mask in masks.items():
            zeros = now[name][~mask]
            assert (zeros == 0).all(), name
            assert not np.signbit(zeros).any()

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=look)
    model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert len(seen) == 10
    for name, mask in masks.items():
        assert (seen[-1][name][mask] != before[name][mask]).any()
    norms = np.linalg.norm(seen[-1]["last"], axis=0)
    assert (norms < 0.5 + 1e-6).all()


def swapped():
    return keras.callbacks.SwapEMAWeights(swap_on_epoch=True)


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ({}, [], []),
        ({"loss_scale_factor": 2.0}, [], []),
        ({"ema_overwrite_frequency": 2}, [], []),
        ({}, [swapped], []),
        ({}, [], [swapped]),
    ],
)
def test_averages_are_of_what_is_left(options, before, after):
    model = small_network()
    masks = lottery.Magnitude(0.2).masks(lottery.kernel_values(model), 6)
    lottery.apply_masks(model, masks)
    model.compile(
        keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5, **options),
        LOSS,
    )
    averages = {}

    def add(*_, **__):
        if keras.backend.backend() == "jax":
            model.jax_state_sync()
        for name, now in lottery.kernel_values(model).items():
            mean = averages.get(name, now)
            averages[name] = 0.5 * mean + 0.5 * now

    def look(*_, **__):
        for name, kernel in lottery.kernel_values(model).items():
            assert not kernel[~masks[name]].any(), name

    looking = keras.callbacks.LambdaCallback(
        on_train_batch_end=add,
        on_epoch_end=look,
        on_train_end=look,
    )
    looking.on_test_begin = look
    model.fit(
        *data(),
        batch_size=8,
        epochs=2,
        verbose=0,
        validation_data=data(),
        callbacks=[
            *(make() for make in before),
            lottery.PrunedAverages(),
            *(make() for make in after),
            looking,
        ],
    )
    look()
    if not options and not before and not after:
        for name, kernel in lottery.kernel_values(model).items():
            np.testing.assert_allclose(kernel, averages[name], rtol=1e-5)


def test_averages_of_several_optimizers():
    model = small_network()
    masks = lottery.magnitude_masks(lottery.kernel_values(model), 0.5)
    lottery.apply_masks(model, masks)
    inner = keras.optimizers.SGD(0.1, use_ema=True)
    model.compile(keras.optimizers.LossScaleOptimizer(inner), LOSS)
    averages = lottery.PrunedAverages()
    model.fit(*data(), verbose=0, callbacks=[averages])
    for name, kernel in lottery.kernel_values(model).items():
        np.testing.assert_array_equal(kernel != 0, masks[name])


def test_kernels_by_name():
    names = [
        *("conv", "separable/depthwise_kernel"),
        *("separable/pointwise_kernel", "depthwise"),
        *("hidden", "last"),
    ]
    assert list(lottery.prunable_kernels(network())) == names


def test_a_subclassed_model_is_pruned_too():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(6, activation="relu")
            self.second = keras.layers.Dense(4)

        def call(self, inputs):
            flat = ops.reshape(inputs, (-1, 72))
            return self.second(self.first(flat))

    model = Net()
    with pytest.raises(ValueError, match="has no weights yet"):
        lottery.prunable_kernels(model)
    model(data()[0])
    masks = lottery.magnitude_masks(lottery.kernel_values(model), 0.7)
    lottery.apply_masks(model, masks)
    model.compile("adam", LOSS)
    model.fit(*data(), epochs=1, verbose=0)
    for name, kernel in lottery.kernel_values(model).items():
        assert (kernel[~masks[name]] == 0).all()


def test_masks_can_be_changed_and_removed():
    model = network(kernel_constraint=keras.constraints.NonNeg())
    kernel = lottery.prunable_kernels(model)["last"]
    own = kernel.constraint
    for sparsity in (0.5, 0.8):
        masks = lottery.magnitude_masks(lottery.kernel_values(model), sparsity)
        lottery.apply_masks(model, masks)
        assert kernel.constraint.constraint is own
        assert (backend.as_numpy(kernel) != 0).sum() <= masks["last"].sum()
    lottery.remove_masks(model)
    assert kernel.constraint is own
    assert lottery.prunable_kernels(model)["conv"].constraint is None


def test_the_constraint_can_be_saved():
    mask = np.array([[True, False], [False, True]])
    pruned = lottery.Pruned(mask, keras.constraints.NonNeg())
    again = lottery.Pruned.from_config(pruned.get_config())
    weights = np.array([[-1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(again(weights), [[0.0, 0.0], [0.0, 4.0]])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda masks: masks | {"conv": masks["conv"][:1]},
        lambda masks: masks | {"conv": masks["conv"].astype("float32")},
        lambda masks: masks | {"other": masks["conv"]},
        lambda masks: {k: m for k, m in masks.items() if k != "conv"},
    ],
)
def test_masks_that_do_not_fit_change_nothing(wrong):
    model = network()
    before = values(model)
    masks = lottery.magnitude_masks(lottery.kernel_values(model), 0.5)
    with pytest.raises(ValueError, match=r"do not fit.*'(conv|other)'"):
        lottery.apply_masks(model, wrong(masks))
    for a, b in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "model",
    [
        lambda: keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]),
        lambda: keras.Sequential([keras.Input((3,)), mpt.MPTDense(2)]),
    ],
)
def test_a_model_with_nothing_to_prune(model):
    with pytest.raises(ValueError, match="has no layer to prune"):
        lottery.TicketSearch(model(), None, "never-made")


def test_reinitialize_draws_from_each_layers_initializer():
    model = network()
    before = values(model)
    lottery.reinitialize(model, seed=3)
    found = lottery.prunable_kernels(model)
    changed = [
        id(variable)
        for variable, value in zip(model.variables, before, strict=True)
        if not np.array_equal(backend.as_numpy(variable), value)
    ]
    assert set(changed) == {id(kernel) for kernel in found.values()}
    hidden = backend.as_numpy(found["hidden"])
    fan = sum(hidden.shape) / 2
    assert hidden.std() == pytest.approx(fan**-0.5, rel=0.25)
    again = network()
    lottery.reinitialize(again, seed=3)
    for a, b in zip(values(again), values(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["", "a/b", "/tmp/x", ".."])
def test_names_of_trainings_are_names_of_folders(name, tmp_path):
    model = mpt.models.lenet_300_100(masked=False, width=0.05, seed=0)
    search = lottery.TicketSearch(model, lambda model, level: 0, tmp_path / "s")
    list(search.run(0))
    with pytest.raises(ValueError, match="the name of a folder"):
        search.retrain(0, name)


def test_reinitialize_needs_random_initializers():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")]
    )
    before = values(model)
    with pytest.raises(ValueError, match=r"with a seed.*\(layer 'dense"):
        lottery.reinitialize(model, seed=0)
    np.testing.assert_array_equal(values(model)[0], before[0])


# --- The search ----------------------------------------------------------


class Training:
    """A `train` function that remembers what it saw."""

    def __init__(self, epochs=3, stop_at=None, **options):
        self.epochs = epochs
        self.options = options
        self.stop_at = stop_at
        self.began = []
        self.steps = []

    def __call__(self, model, level):
        # As it stands at the beginning, before a backup is restored.
        self.began.append((level.number, level.name, values(model)))
        model.compile(keras.optimizers.Adam(0.01, **self.options), LOSS)
        first, rest = divmod(level.first_step, 5)
        assert rest == 0
        count = keras.callbacks.LambdaCallback(
            on_epoch_begin=self.count, on_epoch_end=self.maybe_stop
        )
        history = model.fit(
            *data(),
            batch_size=8,
            shuffle=False,
            initial_epoch=first,
            epochs=self.epochs,
            verbose=0,
            callbacks=[*level.callbacks, count, level.backup],
        )
        return {"loss": history.history.get("loss", [None])[-1]}

    def count(self, epoch, logs=None):
        self.steps.append(epoch)

    def maybe_stop(self, epoch, logs=None):
        if self.stop_at == len(self.steps):
            raise KeyboardInterrupt


def state_file(path):
    with np.load(path) as file:
        return [file[f"arr_{i}"] for i in range(len(file.files))]


def assert_set_back(found, state, model, masks):
    """Variables are those stored, but for zeros where kernels are pruned."""
    names = {id(k): n for n, k in lottery.prunable_kernels(model).items()}
    for variable, value, stored in zip(
        model.variables, found, state, strict=True
    ):
        name = names.get(id(variable))
        expected = stored if name is None else np.where(masks[name], stored, 0)
        assert value.tobytes() == expected.astype(stored.dtype).tobytes()


def test_tickets_go_back_to_the_initial_weights_bit_for_bit(tmp_path):
    model = network()
    initial = values(model)
    train = Training()
    search = lottery.TicketSearch(model, train, tmp_path / "search")
    tickets = list(search.run(2))
    assert [ticket.number for ticket in tickets] == [0, 1, 2]
    for ticket, (number, name, began) in zip(tickets, train.began, strict=True):
        assert (number, name) == (ticket.number, "ticket")
        assert_set_back(began, initial, model, ticket.masks())
        for kernel, counts in ticket.layers.items():
            rate = 0.1 if kernel == "last" else 0.2
            size = counts["weights"]
            assert counts["kept"] == kept_by_formula(size, str(rate), number)
        assert 0 < ticket.kept <= ticket.weights
        assert ticket.sparsity == 1 - ticket.kept / ticket.weights
    # What was pruned are the smallest of what was trained before.
    trained = state_file(tmp_path / "search/level-01/trained.npz")
    rewinding.load_state(model, tmp_path / "search/level-01/trained.npz")
    masks = lottery.Magnitude().masks(
        lottery.kernel_values(model), 2, tickets[1].masks()
    )
    for name, mask in tickets[2].masks().items():
        np.testing.assert_array_equal(mask, masks[name])
    search.load(tickets[1])
    for a, b in zip(values(model), trained, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tickets_go_back_to_a_later_step_bit_for_bit(tmp_path):
    model = network()
    train = Training()
    seen = []

    def train_and_look(model, level):
        def look(epoch, logs=None):
            if epoch == 0 and level.number == 0:
                if keras.backend.backend() == "jax":
                    model.jax_state_sync()
                seen.extend(values(model))

        level.callbacks.append(
            keras.callbacks.LambdaCallback(on_epoch_end=look)
        )
        return train(model, level)

    search = lottery.TicketSearch(
        model, train_and_look, tmp_path, rewind_step=5, training_steps=15
    )
    tickets = list(search.run(2))
    kept = state_file(tmp_path / "rewind-5.npz")
    # Batch norms' statistics and dropout's state among them.
    for a, b in zip(kept, seen, strict=True):
        assert a.tobytes() == b.tobytes()
    for ticket, (_, _, began) in zip(tickets[1:], train.began[1:], strict=True):
        assert_set_back(began, kept, model, ticket.masks())
    # The whole training once, and its end twice.
    assert train.steps == [0, 1, 2, 1, 2, 1, 2]


def test_learning_rate_rewinding_keeps_trained_weights(tmp_path):
    model = network()
    train = Training()
    search = lottery.TicketSearch(
        *(model, train, tmp_path),
        rewind_step=10,
        training_steps=15,
        rewind_weights=False,
    )
    tickets = list(search.run(2))
    for number in (1, 2):
        trained = state_file(tmp_path / f"level-{number - 1:02d}/trained.npz")
        masks = tickets[number].masks()
        assert_set_back(train.began[number][2], trained, model, masks)
    assert train.steps == [0, 1, 2, 2, 2]


def test_one_shot_prunes_the_dense_network(tmp_path):
    model = network()
    pruning = lottery.Magnitude(0.2, "global")
    search = lottery.TicketSearch(
        model, Training(1), tmp_path, pruning, one_shot=True
    )
    _, ticket, sparser = search.run([2, 4])
    assert (ticket.number, sparser.number) == (2, 4)
    rewinding.load_state(model, tmp_path / "level-00/trained.npz")
    for found, rounds in ((ticket, 2), (sparser, 4)):
        assert found.kept == kept_by_formula(found.weights, "0.2", rounds)
        expected = pruning.masks(lottery.kernel_values(model), rounds)
        for name, mask in found.masks().items():
            np.testing.assert_array_equal(mask, expected[name])


def test_controls(tmp_path):
    model = network()
    initial = values(model)
    train = Training(1)
    search = lottery.TicketSearch(model, train, tmp_path)
    *_, ticket = search.run(2)
    random = search.control(2, "random_masks", seed=4)
    drawn = search.control(2, "reinitialized", seed=4)
    assert random.name == "random_masks-seed4"
    assert random.folder.parent == drawn.folder.parent == ticket.folder
    assert random.kept == drawn.kept == ticket.kept
    masks = random.masks()
    assert_set_back(train.began[-2][2], initial, model, masks)
    for name, mask in masks.items():
        assert mask.sum() == ticket.masks()[name].sum()
    rewinding.load_state(model, tmp_path / "initial.npz")
    lottery.reinitialize(model, 4)
    assert_set_back(train.began[-1][2], values(model), model, ticket.masks())
    # Not a second time.
    assert search.control(2, "random_masks", seed=4) == random
    assert len(train.began) == 5


def test_random_masks_start_where_the_ticket_does(tmp_path):
    model = small_network()
    train = Training(2)
    search = lottery.TicketSearch(
        *(model, train, tmp_path),
        rewind_step=5,
        training_steps=10,
        rewind_weights=False,
    )
    list(search.run(2))
    control = search.control(2, "random_masks")
    trained = state_file(tmp_path / "level-01/trained.npz")
    assert_set_back(train.began[-1][2], trained, model, control.masks())
    assert train.steps[-1:] == [1]


def test_a_search_with_averages_of_the_weights(tmp_path):
    train = Training(2, use_ema=True)
    search = lottery.TicketSearch(small_network(), train, tmp_path)
    for ticket in search.run(2):
        search.load(ticket)
        for name, kernel in lottery.kernel_values(search.model).items():
            np.testing.assert_array_equal(kernel != 0, ticket.masks()[name])


def test_retraining_in_another_way(tmp_path):
    model = network()
    initial = values(model)
    train, other = Training(2), Training(2)
    search = lottery.TicketSearch(
        model, train, tmp_path, rewind_step=5, training_steps=10
    )
    _, ticket = search.run(1)
    found = search.retrain(1, "from_the_start", "initial", train=other)
    assert found.name == "from_the_start"
    assert_set_back(other.began[0][2], initial, model, ticket.masks())
    assert other.steps == [0, 1]


def test_a_search_continues_between_and_within_levels(tmp_path):
    whole = lottery.TicketSearch(network(), Training(), tmp_path / "whole")
    expected = list(whole.run(2))
    # Killed in the second epoch of level 1, and between levels.
    stopped = Training(stop_at=5)
    search = lottery.TicketSearch(network(), stopped, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        list(search.run(2))
    again = Training()
    search = lottery.TicketSearch(network(), again, tmp_path / "parts")
    assert next(search.run(2)).number == 0
    assert again.began == []
    assert len(list(search.run(1))) == 2
    # Of level 1 the first epoch was whole.
    assert again.steps == [1, 2]
    last = Training()
    search = lottery.TicketSearch(network(), last, tmp_path / "parts")
    found = list(search.run(2))
    assert [began[0] for began in last.began] == [2]
    for a, b in zip(expected, found, strict=True):
        assert (a.layers, a.result) == (b.layers, b.result)
        for x, y in zip(
            state_file(a.folder / "trained.npz"),
            state_file(b.folder / "trained.npz"),
            strict=True,
        ):
            np.testing.assert_array_equal(x, y)
    assert not list((tmp_path / "parts").rglob("partial-*"))
    assert not list((tmp_path / "parts").rglob("backup"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewind_step": 15, "training_steps": 15}, "before the end, 15"),
        ({"rewind_step": 99, "training_steps": 15}, "rewind_step=99"),
        ({"rewind_step": -1}, "integer from 0 on.*rewind_step=-1"),
        ({"rewind_step": 1.5}, "rewind_step=1.5"),
        ({"rewind_step": 3}, "`training_steps` as well"),
        ({"pruning": lottery.Magnitude(rates={"no": 0.1})}, r"\['no'\]"),
    ],
)
def test_bad_searches(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        lottery.TicketSearch(network(), None, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_bad_levels_controls_and_starts(tmp_path):
    search = lottery.TicketSearch(network(), Training(1), tmp_path)
    for levels in (-1, [2, 1], [1, 3]):
        with pytest.raises(ValueError, match="levels="):
            search.run(levels)
    with pytest.raises(ValueError, match="no ticket of level 1"):
        search.control(1, "random_masks")
    list(search.run(1))
    with pytest.raises(ValueError, match="name='shuffled'"):
        search.control(1, "shuffled")
    with pytest.raises(ValueError, match="start='anywhere'"):
        search.retrain(1, "x", start="anywhere")
    with pytest.raises(ValueError, match="do not fit"):
        search.retrain(1, "x", masks={"conv": np.ones(3, bool)})
    assert not (tmp_path / "level-01/x").exists()


def test_another_search_in_the_folder(tmp_path):
    lottery.TicketSearch(network(), None, tmp_path)
    before = (tmp_path / "search.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"another search.*pruning.rate: 0.2 there, 0.3 here"
    ):
        lottery.TicketSearch(network(), None, tmp_path, lottery.Magnitude(0.3))
    with pytest.raises(ValueError, match=r"training_steps: None there, 9 here"):
        lottery.TicketSearch(network(), None, tmp_path, training_steps=9)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"another search.*kernels"):
        lottery.TicketSearch(other, None, tmp_path)
    assert (tmp_path / "search.json").read_bytes() == before
    json.loads(before)


def test_other_initial_weights_in_the_folder(tmp_path):
    model, train = small_network(), Training(1)
    (dense_network,) = lottery.TicketSearch(model, train, tmp_path).run(0)
    other = small_network()
    lottery.prunable_kernels(other)["last"].assign(np.ones((8, 4)))
    with pytest.raises(
        ValueError,
        match=r"Received: small/last/kernel: another initial value\.",
    ):
        lottery.TicketSearch(other, train, tmp_path)
    # Trained meanwhile; set back, the search continues.
    with pytest.raises(ValueError, match=r"hidden/bias: .*load_state\(model, "):
        lottery.TicketSearch(model, train, tmp_path)
    lottery.load_state(model, str(tmp_path / "initial.npz"))
    search = lottery.TicketSearch(model, train, tmp_path)
    assert next(search.run(0)) == dense_network
    assert len(train.began) == 1


def test_levels_after_one_that_continued_are_whole(tmp_path):
    stopped, again = Training(stop_at=5), Training()
    search = lottery.TicketSearch(small_network(), stopped, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        list(search.run(2))
    search = lottery.TicketSearch(small_network(), again, tmp_path)
    list(search.run(2))
    assert stopped.steps == [0, 1, 2, 0, 1]
    assert again.steps == [1, 2, 0, 1, 2]


def test_another_training_of_the_same_name(tmp_path):
    search = lottery.TicketSearch(small_network(), Training(1), tmp_path)
    _, ticket = search.run(1)
    found = search.retrain(1, "x", "reinitialized", seed=1)
    shuffled = lottery.random_masks(ticket.masks(), 0)
    for options, message in (
        ({"start": "initial"}, "start: reinitialized there, initial here"),
        ({"seed": 2}, "seed: 1 there, 2 here"),
        ({"masks": shuffled}, "hidden: another mask"),
    ):
        options = {"start": "reinitialized", "seed": 1} | options
        with pytest.raises(ValueError, match=f"{message}.*Nothing was changed"):
            search.retrain(1, "x", **options)
    assert search.retrain(1, "x", "reinitialized", seed=1) == found
    # Neither does it continue from the backup of another.
    stopped = Training(3, stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        search.retrain(1, "y", "initial", train=stopped)
    with pytest.raises(ValueError, match="start: initial there, reinit"):
        search.retrain(1, "y", "reinitialized")


def test_training_the_dense_network_again_keeps_the_state(tmp_path):
    search = lottery.TicketSearch(
        small_network(), Training(2), tmp_path, rewind_step=5, training_steps=10
    )
    list(search.run(0))
    before = (tmp_path / "rewind-5.npz").read_bytes()
    search.retrain(0, "again", "reinitialized")
    assert (tmp_path / "rewind-5.npz").read_bytes() == before
    with pytest.raises(ValueError, match="start='trained' for level 0"):
        search.retrain(0, "more", "trained")


def test_a_train_function_that_forgets_the_callbacks(tmp_path):
    search = lottery.TicketSearch(
        *(network(), lambda model, level: None, tmp_path),
        rewind_step=5,
        training_steps=15,
    )
    with pytest.raises(ValueError, match=r"passes level\.callbacks to `fit`"):
        next(search.run(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewind_step": 5, "training_steps": 15}, "was not kept"),
        ({}, r"were trained, in \['hidden', "),
    ],
)
def test_a_train_function_that_is_mended(options, message, tmp_path):
    train = Training(use_ema=True)

    def forgetful(model, level):
        level.callbacks.clear()
        return train(model, level)

    def run(train):
        search = lottery.TicketSearch(
            small_network(), train, tmp_path, **options
        )
        return list(search.run(1))

    with pytest.raises(ValueError, match=message):
        run(forgetful)
    assert len(run(train)) == 2


def test_a_train_function_that_forgets_the_masks(tmp_path):
    def train(model, level):
        for kernel in lottery.prunable_kernels(model).values():
            kernel.assign(np.ones(kernel.shape))
        return np.float32(0.5)

    search = lottery.TicketSearch(network(), train, tmp_path)
    tickets = search.run(1)
    assert next(tickets).result == 0.5
    with pytest.raises(ValueError, match=r"were trained, in \['conv', "):
        next(tickets)
    assert not (tmp_path / "level-01/ticket.json").exists()


def test_an_advanced_schedule():
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([5], [1.0, 0.1])
    advanced = lottery.Advanced(decay, 3)
    again = lottery.Advanced.from_config(advanced.get_config())
    for step, rate in ((0, 1.0), (2, 1.0), (3, 0.1)):
        for schedule in (advanced, again):
            assert float(schedule(step)) == pytest.approx(rate)


def test_the_state_between_steps_executed_together(tmp_path):
    model = network()
    model.compile("sgd", LOSS)
    callback = rewinding.SaveStateAt(model, 3, tmp_path / "state.npz")
    callback.set_model(model)
    model.steps_per_execution = 2
    with pytest.raises(ValueError, match="multiple of steps_per_execution"):
        callback.on_train_begin()


def test_states_of_other_models_and_damaged_ones(tmp_path):
    path = tmp_path / "state.npz"
    rewinding.save_state(network(), path)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="another model"):
        rewinding.load_state(other, path)
    path.write_bytes(path.read_bytes()[:200])
    model = network()
    before = values(model)
    with pytest.raises(ValueError, match="Cannot read the state of 'net'"):
        rewinding.load_state(model, path)
    for a, b in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_states(tmp_path):
    def build(seed):
        return keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(
                    4, dtype="bfloat16", kernel_initializer=init(seed)
                ),
            ]
        )

    rewinding.save_state(build(1), tmp_path / "state.npz")
    model = build(2)
    rewinding.load_state(model, tmp_path / "state.npz")
    expected = ops.cast(build(1).weights[0], "float32")
    found = ops.cast(model.weights[0], "float32")
    np.testing.assert_array_equal(
        backend.as_numpy(expected), backend.as_numpy(found)
    )
