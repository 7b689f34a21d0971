import keras
import numpy as np
import oracle
import pytest
from backend import as_numpy, needs_tensorflow, not_on_torch, tf

import mpt_keras as mpt
from mpt_keras import callbacks, schedules


def small_model(jit_compile=False, **options):
    def layer(cls, *args, seed, **kwargs):
        # Scores of one scale everywhere, so that no layer starves by itself.
        scores = keras.initializers.RandomUniform(-1, 1, seed=seed)
        return cls(*args, seed=seed, scores_initializer=scores, **kwargs)

    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layer(mpt.MPTConv2D, 8, 3, name="first", seed=0),
            layer(mpt.MPTSeparableConv2D, 8, 3, name="second", seed=1),
            keras.layers.Flatten(),
            layer(mpt.MPTDense, 3, name="last", seed=2),
        ]
    )
    model.compile("sgd", "mse", jit_compile=jit_compile, **options)
    return model


def batches(rng, count=20):
    x = rng.standard_normal((count, 6, 6, 2)).astype("float32")
    return x, rng.standard_normal((count, 3)).astype("float32")


def kernels_of(model):
    return [
        m for layer in mpt.masked_layers(model) for m in layer.masked_kernels
    ]


def kept_in(model):
    return [int(masked.kept()) for masked in kernels_of(model)]


def kept_by_oracle(model, sparsity):
    scores = [as_numpy(masked.scores) for masked in kernels_of(model)]
    mask = oracle.mask(np.concatenate([s.ravel() for s in scores]), sparsity)
    bounds = np.cumsum([s.size for s in scores])[:-1]
    return [int(part.sum()) for part in np.split(mask, bounds)]


class Recorder(keras.callbacks.Callback):
    def __init__(self, look, hook):
        super().__init__()
        self.seen = []
        setattr(self, hook, lambda *_, **__: self.seen.append(look(self.model)))


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=not_on_torch)]
)
def test_schedule_per_epoch_reaches_the_compiled_step(jit_compile, rng):
    model = small_model(jit_compile)
    ramp = schedules.Polynomial(0.0, 0.9, end=3, power=1)
    recorder = Recorder(kept_in, "on_train_batch_end")
    logs = model.fit(
        *batches(rng),
        batch_size=10,
        epochs=5,
        verbose=0,
        callbacks=[callbacks.SparsitySchedule(ramp), recorder],
    ).history
    sizes = [masked.size for masked in kernels_of(model)]
    for epoch in range(5):
        expected = [n - oracle.pruned_count(ramp(epoch), n) for n in sizes]
        assert recorder.seen[2 * epoch] == expected
        assert recorder.seen[2 * epoch + 1] == expected
        assert logs["sparsity"][epoch] == pytest.approx(
            1 - sum(expected) / sum(sizes)
        )


def test_schedule_per_step_counts_the_optimizers_steps(rng):
    model = small_model()
    seen = []

    def schedule(step):
        seen.append(step)
        return step / 100

    x, y = batches(rng)
    callback = callbacks.SparsitySchedule(schedule, per="step")
    for _ in range(2):  # the second call continues, as a resumed run does
        model.fit(x, y, batch_size=5, epochs=2, verbose=0, callbacks=[callback])
    assert seen == list(range(16))
    layer = mpt.masked_layers(model)[0]
    assert layer.sparsity == 0.15


@not_on_torch
def test_schedule_per_step_with_several_steps_per_execution(rng):
    model = small_model(steps_per_execution=2)
    seen = []
    callback = callbacks.SparsitySchedule(
        lambda step: seen.append(step) or 0.5, per="step"
    )
    model.fit(*batches(rng), batch_size=5, verbose=0, callbacks=[callback])
    assert seen == [0, 2]


def test_global_sparsity_is_one_threshold_before_every_batch(rng):
    model = small_model()
    recorder = Recorder(
        lambda model: (kept_in(model), kept_by_oracle(model, 0.7)),
        "on_train_batch_begin",
    )
    callback = callbacks.GlobalSparsity(0.7)
    logs = model.fit(
        *batches(rng),
        batch_size=5,
        epochs=2,
        verbose=0,
        callbacks=[callback, recorder],
    ).history
    assert len(recorder.seen) == 8
    for kept, expected in recorder.seen:
        assert kept == expected
    assert kept_in(model) == kept_by_oracle(model, 0.7)
    # Other layers have other sparsities, all together have the one asked for.
    assert len({int(m.pruned) for m in kernels_of(model)}) > 1
    assert logs["sparsity"] == pytest.approx([0.7, 0.7], abs=1e-3)


@pytest.mark.parametrize("how", ["evaluate", "predict"])
def test_global_sparsity_holds_for_an_evaluation_and_no_longer(how, rng):
    x, y = batches(rng)
    model = small_model()
    before = kept_in(model)
    callback = callbacks.GlobalSparsity(0.8)
    hook = {"evaluate": "on_test_batch_end", "predict": "on_predict_batch_end"}
    recorder = Recorder(kept_in, hook[how])
    data = (x, y) if how == "evaluate" else (x,)
    getattr(model, how)(*data, verbose=0, callbacks=[callback, recorder])
    assert recorder.seen == [kept_by_oracle(model, 0.8)]
    assert before != recorder.seen[0]
    assert kept_in(model) == before


def test_validation_leaves_the_masks_of_the_training(rng):
    x, y = batches(rng)
    model = small_model()
    model.fit(
        x,
        y,
        validation_data=(x, y),
        verbose=0,
        callbacks=[callbacks.GlobalSparsity(0.8)],
    )
    assert kept_in(model) == kept_by_oracle(model, 0.8)


def every_callback(**options):
    return [
        callbacks.GlobalSparsity(0.9, **options),
        callbacks.SparsitySchedule(lambda time: 0.8, **options),
        callbacks.WeightRecycling(0.2, every=1, per="step", **options),
        callbacks.MaskChurn(**options),
    ]


def state_of(layers):
    return [as_numpy(w) for layer in layers for w in layer.weights]


@pytest.mark.parametrize("number", range(4))
def test_callbacks_leave_the_teacher_of_a_distiller_alone(number, rng):
    teacher, student = (
        keras.Sequential(
            [keras.Input((6,)), mpt.MPTDense(3, seed=seed, name="only")]
        )
        for seed in (0, 1)
    )
    model = mpt.lottery.distiller(teacher, student)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    before = [state_of(x.layers) for x in (teacher, student)]
    model.fit(
        rng.standard_normal((20, 6)),
        np.zeros(20),
        batch_size=5,
        verbose=0,
        callbacks=[every_callback()[number]],
    )
    for ours, theirs in zip(state_of(teacher.layers), before[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    changed = zip(state_of(student.layers), before[1], strict=True)
    assert any((ours != theirs).any() for ours, theirs in changed)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *(("several", number) for number in range(3)),
        *((kind, 0) for kind in ("name", "pattern", "layer")),
    ],
)
def test_callbacks_act_on_the_layers_that_are_named(kind, number, rng):
    model = small_model()
    first, second, last = mpt.masked_layers(model)
    layers = {
        "name": "last",
        "pattern": "l?s*",
        "layer": last,
        "several": [last, "las*"],
    }
    model.optimizer.learning_rate.assign(0.0)
    before = state_of([first, second])
    model.fit(
        *batches(rng),
        batch_size=5,
        verbose=0,
        callbacks=[every_callback(layers=layers[kind])[number]],
    )
    for ours, theirs in zip(state_of([first, second]), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if number < 2:
        assert last.sparsity == pytest.approx((0.9, 0.8)[number], abs=0.01)


def test_churn_of_the_layers_that_are_named(rng):
    model = small_model()
    logs = model.fit(
        *batches(rng),
        verbose=0,
        callbacks=[callbacks.MaskChurn(per_layer=True, layers="last")],
    ).history
    assert set(logs) == {"loss", "mask_churn", "mask_churn/last"}


def test_patterns_name_layers_that_train(rng):
    model = small_model()
    model.get_layer("first").trainable = False
    model.compile("sgd", "mse")
    before = state_of([model.get_layer("first")])
    callback = callbacks.SparsitySchedule(lambda time: 0.9, layers="*")
    for _ in range(2):
        model.fit(*batches(rng), verbose=0, callbacks=[callback])
    for ours, theirs in zip(
        state_of([model.get_layer("first")]), before, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    own = callbacks.SparsitySchedule(
        lambda time: 0.9, layers=iter([model.get_layer("first")])
    )
    model.fit(*batches(rng), verbose=0, callbacks=[own])
    assert model.get_layer("first").sparsity == 0.9
    with pytest.raises(ValueError, match="None for all that train"):
        callbacks.MaskChurn(layers=[])


def test_a_global_schedule_starts_anew_with_every_model(rng):
    callback = callbacks.GlobalSparsity(schedule=lambda epoch: 0.9)
    small_model().fit(*batches(rng), verbose=0, callbacks=[callback])
    other = small_model()
    recorder = Recorder(kept_in, "on_test_batch_end")
    expected = kept_in(other)
    other.evaluate(*batches(rng), verbose=0, callbacks=[callback, recorder])
    assert recorder.seen == [expected]


def test_averages_of_the_weights_share_one_threshold(rng):
    model = small_model()
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, "mse")
    callback = callbacks.GlobalSparsity(0.8)
    model.fit(*batches(rng), epochs=2, verbose=0, callbacks=[callback])
    assert kept_in(model) == kept_by_oracle(model, 0.8)


def test_steps_of_earlier_fits_count_for_the_schedules_end(rng):
    model = small_model()
    ramp = schedules.Polynomial(0.0, 0.5, end=7, power=1)
    callback = callbacks.SparsitySchedule(ramp, per="step")
    with pytest.warns(UserWarning, match="ends at step 3"):
        model.fit(*batches(rng), batch_size=5, verbose=0, callbacks=[callback])
    model.fit(*batches(rng), batch_size=5, verbose=0, callbacks=[callback])
    assert model.get_layer("first").sparsity == 0.5


def test_layers_that_are_not_there(rng):
    callback = callbacks.GlobalSparsity(0.5, layers=["first", "third"])
    with pytest.raises(ValueError, match=r"'first', 'second', 'last'.*'third'"):
        small_model().fit(*batches(rng), verbose=0, callbacks=[callback])
    model = small_model()
    model.trainable = False
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="acts on the layers that train"):
        model.evaluate(
            *batches(rng), verbose=0, callbacks=[callbacks.GlobalSparsity(0.5)]
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda ramp: callbacks.GlobalSparsity(schedule=ramp),
            r"epoch 2, with a sparsity of 0.7, .* come to 0.9: Polynomial",
        ),
        (callbacks.SparsitySchedule, "epoch 2, with a sparsity of 0.7"),
        (
            lambda ramp: callbacks.SparsitySchedule(ramp, per="step"),
            r"step 3, with a sparsity of 0.8",
        ),
    ],
)
def test_a_training_that_ends_before_its_schedule_says_so(make, message, rng):
    ramp = schedules.Polynomial(0.5, 0.9, end=4, power=1)
    callback = make(ramp)
    steps = getattr(callback, "per", "epoch") == "step"
    with pytest.warns(UserWarning, match=message):
        small_model().fit(
            *batches(rng),
            batch_size=5,
            epochs=1 if steps else 3,
            verbose=0,
            callbacks=[callback],
        )


def test_global_masks_survive_saving_without_the_callback(rng, tmp_path):
    x, y = batches(rng)
    model = small_model()
    model.fit(x, y, verbose=0, callbacks=[mpt.callbacks.GlobalSparsity(0.6)])
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert kept_in(reloaded) == kept_in(model)
    np.testing.assert_array_equal(
        reloaded.predict_on_batch(x), model.predict_on_batch(x)
    )


def test_global_sparsity_follows_its_schedule(rng):
    model = small_model()
    ramp = schedules.Polynomial(0.5, 0.9, end=2)
    logs = model.fit(
        *batches(rng),
        epochs=4,
        verbose=0,
        callbacks=[callbacks.GlobalSparsity(schedule=ramp)],
    ).history
    expected = [ramp(epoch) for epoch in range(4)]
    assert logs["sparsity"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("minimum", [1, 5])
def test_a_layer_that_would_starve_is_kept_alive_and_named(minimum, rng):
    model = small_model()
    model.optimizer.learning_rate.assign(0.0)
    starving = model.get_layer("last")
    starving.scores.assign(1e-6 * as_numpy(starving.scores))
    callback = callbacks.GlobalSparsity(0.9, minimum=minimum)
    x, y = batches(rng)
    with pytest.warns(UserWarning, match="Layer 'last' would keep 0") as caught:
        model.fit(
            x,
            y,
            validation_data=(x, y),
            epochs=3,
            verbose=0,
            callbacks=[callback],
        )
    categories = [warning.category for warning in caught]
    assert categories.count(UserWarning) == 1
    assert int(np.sum(as_numpy(starving.mask()))) == minimum


def test_a_starving_layer_is_named_when_it_happens(rng):
    """Not only at the end of the epoch, which this one never reaches."""
    model = small_model()
    scores = model.get_layer("last").scores
    scores.assign(1e-6 * as_numpy(scores))

    class BreakOff(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    with (
        pytest.warns(UserWarning, match="sparsity of 0.9 in batch 1;"),
        pytest.raises(KeyboardInterrupt),
    ):
        model.fit(
            *batches(rng),
            batch_size=5,
            verbose=0,
            callbacks=[callbacks.GlobalSparsity(0.9), BreakOff()],
        )


def test_restored_weights_keep_their_sparsity(rng):
    """Even where a callback before ours restores them when training ends."""
    model = small_model()
    restore = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=10, restore_best_weights=True
    )
    ramp = schedules.Polynomial(0.1, 0.9, end=3, power=1)
    model.fit(
        *batches(rng),
        epochs=4,
        verbose=0,
        callbacks=[callbacks.GlobalSparsity(schedule=ramp), restore],
    )
    assert restore.best_epoch == 0
    assert kept_in(model) == kept_by_oracle(model, 0.1)


def test_evaluating_leaves_the_masks_of_a_schedule_alone(rng):
    model = small_model()
    for layer in mpt.masked_layers(model):
        layer.sparsity = 0.9
    before = kept_in(model)
    fresh = callbacks.GlobalSparsity(
        schedule=schedules.Polynomial(0.5, 0.6, end=10)
    )
    model.evaluate(*batches(rng), verbose=0, callbacks=[fresh])
    assert kept_in(model) == before


def seen_steps():
    """A callback, and the steps that its schedule is asked for."""
    seen = []
    callback = callbacks.SparsitySchedule(
        lambda step: seen.append(step) or 0.5, per="step"
    )
    return callback, seen


@pytest.mark.parametrize("accumulated", [2, 3])
def test_steps_are_batches_under_gradient_accumulation(accumulated, rng):
    model = small_model()
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=accumulated)
    model.compile(optimizer, "mse")
    callback, seen = seen_steps()
    others = [callbacks.WeightRecycling(0.2, every=100, per="step")]
    for epochs in (2, 1):  # eight batches in each, which 3 does not divide
        model.fit(
            *batches(rng, 40),
            batch_size=5,
            epochs=epochs,
            verbose=0,
            callbacks=[callback, *others],
        )
        others = []
    assert seen == list(range(24))


@not_on_torch  # whose loss scale skips no step
def test_steps_are_batches_where_float16_skips_some(rng):
    model = small_model()
    scale = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(), initial_scale=2.0**127
    )
    model.compile(scale, "mse")
    callback, seen = seen_steps()
    for _ in range(2):
        model.fit(*batches(rng), batch_size=5, verbose=0, callbacks=[callback])
    assert seen == list(range(8))
    assert int(scale.iterations) < 8


def test_steps_continue_in_a_resumed_run(rng, tmp_path):
    def fit(epochs, *used):
        model = small_model()
        optimizer = keras.optimizers.SGD(gradient_accumulation_steps=3)
        model.compile(optimizer, "mse")
        run = {"what": "the same"}
        backup = callbacks.AtomicBackup(tmp_path, run=run)
        model.fit(
            *batches(rng, 40),
            batch_size=5,
            epochs=epochs,
            verbose=0,
            callbacks=[*used, backup],
        )

    fit(2)  # nobody else asks for steps
    callback, seen = seen_steps()
    fit(3, callback)
    assert seen == list(range(16, 24))


@needs_tensorflow
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_schedule_under_a_strategy(per, rng):
    strategy = tf.distribute.MirroredStrategy(["cpu:0"])
    with strategy.scope():
        model = small_model()
    callback = callbacks.SparsitySchedule(lambda time: 0.75, per=per)
    model.fit(*batches(rng), verbose=0, callbacks=[callback])
    sizes = [masked.size for masked in kernels_of(model)]
    assert kept_in(model) == [n - oracle.pruned_count(0.75, n) for n in sizes]


def test_one_callback_serves_one_model_after_another(rng):
    callback = callbacks.GlobalSparsity(0.9)
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        model = small_model()
        model.fit(*batches(rng), verbose=0, callbacks=[callback])
        assert kept_in(model) == kept_by_oracle(model, 0.9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: callbacks.GlobalSparsity(), "either `sparsity` or"),
        (lambda: callbacks.GlobalSparsity(0.5, abs), "either `sparsity` or"),
        (lambda: callbacks.GlobalSparsity(1.5), "Expected a number in"),
        (lambda: callbacks.GlobalSparsity(0.5, minimum=0), "at least 1 weight"),
        (lambda: callbacks.SparsitySchedule(abs, per="batch"), "or 'step'"),
        (lambda: callbacks.SparsitySchedule(0.5), "Expected a callable"),
        (lambda: callbacks.GlobalSparsity(schedule=0.5), "Expected a callable"),
    ],
)
def test_impossible_callbacks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "callback",
    [callbacks.GlobalSparsity(0.5), callbacks.SparsitySchedule(lambda t: 0.5)],
)
def test_a_model_without_masked_layers_is_refused(callback):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a model with masked layers"):
        model.fit(np.ones((2, 2)), np.ones(2), callbacks=[callback], verbose=0)


@needs_tensorflow  # others build the model before training begins
def test_a_model_without_weights_yet_is_refused(rng):
    model = keras.Sequential([mpt.MPTDense(4, name="late")])
    model.compile("sgd", "mse")
    callback = callbacks.GlobalSparsity(0.5)
    with pytest.raises(ValueError, match=r"keras.Input.*Not built: \['late'\]"):
        model.fit(np.ones((4, 3)), np.ones((4, 4)), callbacks=[callback])


@not_on_torch
def test_global_sparsity_refuses_several_steps_per_execution(rng):
    model = small_model(steps_per_execution=4)
    with pytest.raises(ValueError, match="steps_per_execution=1"):
        model.fit(
            *batches(rng), verbose=0, callbacks=[callbacks.GlobalSparsity(0.5)]
        )


def test_a_schedule_that_leaves_its_range_stops_the_training(rng):
    callback = callbacks.SparsitySchedule(lambda epoch: 0.6 * epoch)
    with pytest.raises(ValueError, match=r"Received: sparsity=1\.2"):
        small_model().fit(
            *batches(rng), epochs=5, verbose=0, callbacks=[callback]
        )


@needs_tensorflow  # others want an optimizer, or another step
def test_batches_of_a_model_without_an_optimizer(rng, tmp_path):
    class OwnStep(keras.Model):
        def train_step(self, data):
            return {"loss": 0.0}

    layers = small_model()
    model = OwnStep(layers.inputs, layers.outputs)
    model.compile(optimizer=None)
    callback, seen = seen_steps()
    others = [
        callbacks.GlobalSparsity(0.5),
        callbacks.AtomicBackup(tmp_path),
    ]
    model.fit(
        *batches(rng),
        batch_size=5,
        epochs=2,
        verbose=0,
        callbacks=[*others, callback],
    )
    assert seen == list(range(8))
