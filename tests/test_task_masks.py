"""Tasks over one network, against networks that know of no other task."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from backend import as_numpy
from keras import layers

import mpt_keras as mpt
from mpt_keras import ticket
from mpt_keras.drawing import Draw
from mpt_keras.layers.traversal import masked_kernels
from mpt_keras.ticket.container import Contents
from mpt_keras.ticket.kernels import decode_kernel, encode_kernel

DRAWN = np.random.default_rng(0)
IMAGES = DRAWN.standard_normal((48, 6, 6, 2)).astype("float32")
LABELS = {
    name: DRAWN.integers(0, 3, 48).astype("int32")
    for name in ("cats", "dogs", "birds")
}


def network(first=layers.ReLU, seed=0, **options):
    """Masked layers, batch norm, a bias, and an ordinary head."""
    options = {"sparsity": 0.6, **options}
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            first(name="first"),
            mpt.MPTConv2D(6, 3, seed=seed + 1, name="conv", **options),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            mpt.MPTSeparableConv2D(5, 3, seed=seed + 2, name="two", **options),
            layers.Flatten(name="flat"),
            mpt.MPTDense(
                8, use_bias=True, seed=seed + 3, name="dense", **options
            ),
            layers.Dense(3, name="head", kernel_initializer="ones"),
        ],
        name="network",
    )


def compiled(model, optimizer="adam"):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(True))
    return model


def train(model, name, epochs=1):
    model.fit(IMAGES, LABELS[name], 16, epochs=epochs, shuffle=False, verbose=0)


def values(model):
    return [as_numpy(variable) for variable in model.weights]


def predictions(model):
    return as_numpy(model(IMAGES[:8]))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def search(model, draw):
    """Moves what training moves, as a search might."""
    for masked in masked_kernels(model).values():
        moved = 0.1 * draw.standard_normal(masked.scores.shape)
        masked.scores.assign(as_numpy(masked.scores) + moved.astype("float32"))
    for variable in model.weights:
        if variable.name in ("bias", "moving_variance", "gamma"):
            variable.assign(draw.uniform(0.5, 1.5, variable.shape))


@pytest.fixture
def trained():
    """Three tasks, and what each predicts."""
    draw = np.random.default_rng(1)
    tasks = mpt.TaskMasks(network())
    found = {}
    for name in LABELS:
        tasks.add(name)
        search(tasks.model, draw)
        found[name] = predictions(tasks.model)
    return tasks, found


def check_predicts(tasks, found):
    for name, expected in found.items():
        tasks.switch(name)
        np.testing.assert_array_equal(predictions(tasks.model), expected)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "scaled"])
def test_each_task_trains_as_if_it_were_alone(optimizer):
    def make():
        schedule = keras.optimizers.schedules.CosineDecay(0.05, 9)
        if optimizer == "adam":
            return keras.optimizers.Adam(schedule)
        sgd = keras.optimizers.SGD(schedule, momentum=0.9)
        if optimizer == "momentum":
            return sgd
        return keras.optimizers.LossScaleOptimizer(sgd)

    tasks = mpt.TaskMasks(compiled(network(), make()))
    assert tasks.current is None
    alone = {name: compiled(network(), make()) for name in LABELS}
    for turn in range(3):
        for name in LABELS:
            if turn:
                tasks.switch(name)
            else:
                tasks.add(name)
            assert tasks.current == name
            train(tasks.model, name)
            train(alone[name], name)
            assert_same(values(tasks.model), values(alone[name]))
            assert_same(
                [as_numpy(v) for v in tasks.model.optimizer.variables],
                [as_numpy(v) for v in alone[name].optimizer.variables],
            )
    assert tasks.names == tuple(tasks) == tuple(LABELS)
    assert len(tasks) == 3
    assert "cats" in tasks
    assert "cat" not in tasks
    assert len({predictions(model).tobytes() for model in alone.values()}) == 3


def test_another_compilation_begins_without_momentum(trained):
    tasks, found = trained
    compiled(tasks.model)
    train(tasks.model, "birds")
    compiled(tasks.model, keras.optimizers.SGD(0.1, momentum=0.9))
    tasks.switch("dogs")
    train(tasks.model, "dogs")
    tasks.switch("cats")
    np.testing.assert_array_equal(predictions(tasks.model), found["cats"])
    state = [as_numpy(v) for v in tasks.model.optimizer.variables]
    assert state[0] == 0
    assert state[1] == np.float32(0.1)
    assert all((momentum == 0).all() for momentum in state[2:])


def test_nothing_is_compiled_anew():
    traces = []

    class Counting(layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    tasks = mpt.TaskMasks(compiled(network(Counting)))
    tasks.add("cats")
    train(tasks.model, "cats")
    tasks.model.predict(IMAGES, verbose=0)
    before = len(traces)
    calls = []
    for _ in range(2):
        for name in ("dogs", "cats"):
            tasks.switch(name) if name in tasks else tasks.add(name)
            train(tasks.model, name)
            tasks.model.predict(IMAGES, verbose=0)
            calls.append(len(traces) - before)
    if keras.backend.backend() == "tensorflow":
        assert calls[-1] == 0
    elif keras.backend.backend() == "jax":
        assert calls[-1] == calls[0]


def test_files_hold_the_network_once(trained, tmp_path):
    tasks, found = trained
    tasks.save(tmp_path / "all")
    folder = tmp_path / "all"
    current = values(tasks.model)
    loaded = mpt.TaskMasks.load(folder)
    assert (loaded.names, loaded.current) == (tasks.names, "birds")
    np.testing.assert_array_equal(predictions(loaded.model), found["birds"])
    check_predicts(loaded, found)
    assert_same(values(tasks.model), current)
    check_predicts(tasks, found)
    summary = tasks.summary()
    for row in summary.rows:
        file = folder / "tasks" / f"{row.name}.ticket"
        assert row.ticket_bytes == file.stat().st_size
        alone = mpt.load_ticket(file, base=folder / "network.ticket")
        np.testing.assert_array_equal(predictions(alone), found[row.name])
        mpt.save_ticket(alone, tmp_path / "alone.ticket")
        assert row.ticket_bytes < (tmp_path / "alone.ticket").stat().st_size
        sizes = [m.size for m in masked_kernels(alone).values()]
        assert row.weights == sum(sizes)
        kept = [int(m.kept()) for m in masked_kernels(alone).values()]
        assert row.kept == sum(kept)
        assert 0 < row.mask_bytes < row.ticket_bytes
    on_disk = sum(file.stat().st_size for file in folder.rglob("*.ticket"))
    assert summary.total_bytes == on_disk
    # What was loaded gives the same files.
    loaded.save(tmp_path / "again")
    for file in folder.rglob("*.ticket"):
        again = tmp_path / "again" / file.relative_to(folder)
        assert again.read_bytes() == file.read_bytes()
    # A new task begins where the first ones began.
    loaded.add("mice")
    tasks.add("mice")
    assert_same(values(loaded.model), values(tasks.model))
    assert_same(values(tasks.model), values(network()))


@pytest.mark.parametrize("binarize", [True, False])
def test_a_kernel_without_a_seed_is_stored_once(binarize, tmp_path):
    options = {"binarize": binarize, "sparsity": 0.6}
    initializer = keras.initializers.GlorotUniform(seed=4)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Flatten(),
            mpt.MPTDense(64, kernel_initializer=initializer, **options),
            layers.ReLU(),
            mpt.MPTDense(3, kernel_initializer=initializer, **options),
        ]
    )
    tasks = mpt.TaskMasks(model)
    first = values(model)
    found, draw = {}, np.random.default_rng(1)
    for name in LABELS:
        tasks.add(name)
        for layer in mpt.masked_layers(model):
            layer.sparsity = 0.3
        search(model, draw)
        found[name] = predictions(model)
    tasks.save(tmp_path)
    weights = sum(masked.size for masked in masked_kernels(model).values())
    network = tmp_path / "network.ticket"
    assert network.stat().st_size > 4 * weights
    for row in tasks.summary().rows:
        assert row.ticket_bytes < weights / 8 + 1500
        contents = Contents(
            (tmp_path / f"tasks/{row.name}.ticket").read_bytes()
        )
        parts = {name.partition("/")[0] for name in contents.arrays}
        assert parts == {"masks"}
    loaded = mpt.TaskMasks.load(tmp_path)
    check_predicts(loaded, found)
    loaded.add("mice")
    for layer in mpt.masked_layers(loaded.model):
        assert layer.sparsity == 0.6
    np.testing.assert_array_equal(values(loaded.model)[0], first[0])


def test_masks_of_tasks_need_not_share_anything(tmp_path):
    model = network(seed=5)
    tasks = mpt.TaskMasks(model)
    draw = np.random.default_rng(1)
    for name in ("one", "two"):
        tasks.add(name)
        for layer in mpt.masked_layers(model):
            masks = [
                draw.random(masked.kernel.shape) < 0.3
                for masked in layer.masked_kernels
            ]
            layer.set_mask(masks if len(masks) > 1 else masks[0])
    tasks.save(tmp_path)
    for row in tasks.summary().rows:
        base = tmp_path / "network.ticket"
        alone = mpt.load_ticket(tmp_path / f"tasks/{row.name}.ticket", base)
        mpt.save_ticket(alone, tmp_path / "alone.ticket")
        masks = ticket.read_ticket(tmp_path / "alone.ticket").kernels.values()
        assert row.mask_bytes <= sum(kernel.bytes for kernel in masks)


def test_packed_tasks_predict_the_same_from_bits(trained):
    tasks, found = trained
    whole = {row.name: row for row in tasks.summary().rows}
    tasks.pack("cats")
    assert [row.is_packed for row in tasks.summary().rows] == [True, 0, 0]
    tasks.pack()
    np.testing.assert_array_equal(predictions(tasks.model), found["birds"])
    check_predicts(tasks, found)
    check_predicts(tasks, found)
    moved = 4 * (6 + 6 + 8 + 3)
    for row in tasks.summary().rows:
        assert row.is_packed
        bits = sum(
            -(-masked.size // 8)
            for masked in masked_kernels(tasks.model).values()
        )
        assert row.memory_bytes == bits + moved
        assert row.memory_bytes < whole[row.name].memory_bytes
        assert row.ticket_bytes == whole[row.name].ticket_bytes
    tasks.switch("cats")
    search(tasks.model, np.random.default_rng(2))
    after = predictions(tasks.model)
    tasks.switch("dogs")
    tasks.switch("cats")
    np.testing.assert_array_equal(predictions(tasks.model), after)
    assert [row.is_packed for row in tasks.summary().rows] == [
        False,
        True,
        True,
    ]
    assert "scores" in str(tasks.summary())


def test_what_no_task_changes_is_not_copied():
    frozen = layers.Dense(500, trainable=False, name="frozen")
    model = keras.Sequential(
        [keras.Input((4,)), frozen, mpt.MPTDense(3, seed=1)]
    )
    tasks = mpt.TaskMasks(model)
    tasks.add("one")
    (row,) = tasks.summary().rows
    assert row.memory_bytes == 4 * 1500
    assert row.ticket_bytes < 1500


def test_each_task_has_its_own_sparsity(tmp_path):
    model = network()
    tasks = mpt.TaskMasks(model)
    dense = model.get_layer("dense")
    for name, sparsity in (("one", 0.25), ("two", 0.9)):
        tasks.add(name)
        assert dense.sparsity == 0.6
        dense.sparsity = sparsity
    tasks.save(tmp_path)
    for some in (tasks, mpt.TaskMasks.load(tmp_path)):
        layer = some.model.get_layer("dense")
        some.switch("one")
        assert int(np.count_nonzero(layer.mask())) == 120  # of 160
        some.switch("two")
        assert int(np.count_nonzero(layer.mask())) == 16
        some.pack()
        some.switch("one")
        assert int(np.count_nonzero(layer.mask())) == 120


def test_a_task_begins_with_another_or_with_a_ticket(trained, tmp_path):
    tasks, found = trained
    tasks.save(tmp_path)
    tasks.add("like birds", start="birds")  # the current one, not put away
    np.testing.assert_array_equal(predictions(tasks.model), found["birds"])
    tasks.add("like cats", start="cats")
    np.testing.assert_array_equal(predictions(tasks.model), found["cats"])
    search(tasks.model, np.random.default_rng(2))
    tasks.add("an update", ticket=tmp_path / "tasks" / "dogs.ticket")
    np.testing.assert_array_equal(predictions(tasks.model), found["dogs"])
    mpt.save_ticket(tasks.model, tmp_path / "whole.ticket")
    again = mpt.TaskMasks(network())
    again.add("whole", ticket=ticket.read_ticket(tmp_path / "whole.ticket"))
    np.testing.assert_array_equal(predictions(again.model), found["dogs"])
    check_predicts(tasks, found)


def test_removed_tasks(trained, tmp_path):
    tasks, found = trained
    tasks.save(tmp_path)
    tasks.remove("dogs")
    tasks.remove("birds")
    assert (tasks.names, tasks.current) == (("cats",), None)
    np.testing.assert_array_equal(predictions(tasks.model), found["birds"])
    tasks.switch("cats")
    tasks.save(tmp_path)
    assert mpt.TaskMasks.load(tmp_path).names == ("cats",)
    assert (tmp_path / "tasks" / "dogs.ticket").exists()
    tasks.add("dogs")
    assert_same(values(tasks.model), values(network()))


def test_layers_of_half_precision():
    model = network(dtype="bfloat16")
    tasks = mpt.TaskMasks(model)
    found, draw = {}, np.random.default_rng(3)
    for name in LABELS:
        tasks.add(name)
        for masked in masked_kernels(model).values():
            scores = draw.standard_normal(masked.scores.shape)
            masked.scores.assign(scores.astype("float32"))
        found[name] = as_numpy(model(IMAGES))
    tasks.pack()
    for name in found:
        tasks.switch(name)
        np.testing.assert_array_equal(as_numpy(model(IMAGES)), found[name])


# --- What is wrong ---------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "model", "Expected a Keras model. Received: model='model'"),
        (lambda: keras.Sequential([mpt.MPTDense(2)]), "is not built"),
        (
            lambda: keras.Sequential([keras.Input((2,)), layers.Dense(2)]),
            "holds no masked layer",
        ),
    ],
)
def test_models_without_tasks(make, message):
    with pytest.raises(ValueError, match=message):
        mpt.TaskMasks(make())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda t: t.switch("dog"), "'birds'. Received.*Did you mean 'dogs'?"),
        (lambda t: t.pack("x"), "Expected one of the tasks 'cats', 'dogs'"),
        (lambda t: t.remove("x"), "Received: name='x'.$"),
        (lambda t: t.add("new", start="dogz"), "`start`.*mean 'dogs'"),
        (lambda t: t.add("Cats"), "there is 'cats'. Received: name='Cats'"),
        (lambda t: t.add("a", "cats", "b"), "Received both"),
        (lambda t: t.add("a", ticket=3), "`ticket`.*Received: int"),
    ],
)
def test_wrong_words_change_nothing(trained, act, message):
    tasks, found = trained
    before = values(tasks.model)
    with pytest.raises(ValueError, match=message):
        act(tasks)
    assert (tasks.names, tasks.current) == (tuple(LABELS), "birds")
    assert_same(values(tasks.model), before)
    check_predicts(tasks, found)


def test_names_that_are_none_of_files(trained):
    tasks, _ = trained
    for name in (
        *("", ".", "..", "a/b", "a\\b", "../a", "a.", " a", "a:b"),
        *("a\n", "CON", "nul.txt", "con .x", 101 * "a", "ä", None, 3),
    ):
        with pytest.raises(ValueError, match="Expected at most 100 letters"):
            tasks.add(name)
    assert (tasks.names, tasks.current) == (tuple(LABELS), "birds")


def test_no_task_yet():
    tasks = mpt.TaskMasks(network())
    with pytest.raises(ValueError, match="a task, but none was added yet"):
        tasks.switch("cats")
    assert tasks.summary().rows == ()
    assert "0 tasks" in str(tasks.summary())


def test_tickets_of_other_networks(trained, tmp_path):
    tasks, found = trained
    other = network(seed=7)
    mpt.save_ticket(other, tmp_path / "seed.ticket")
    mpt.save_ticket(network(binarize=False), tmp_path / "real.ticket")
    small = keras.Sequential([keras.Input((4,)), mpt.MPTDense(3)])
    mpt.save_ticket(small, tmp_path / "small.ticket")
    mpt.TaskMasks(other).save(tmp_path / "other")
    (tmp_path / "no.ticket").write_bytes(b"no ticket")
    for name, message in (
        ("seed", "'conv'.*another random network"),
        ("real", "not masked as its layer"),
        ("small", "Expected one of its network's"),
        ("other/start", "saved against another ticket"),
        ("no", "no whole ticket"),
        ("nothing", "There is no file"),
    ):
        with pytest.raises(mpt.TicketError, match=message):
            tasks.add("new", ticket=tmp_path / f"{name}.ticket")
    assert (tasks.names, tasks.current) == (tuple(LABELS), "birds")
    check_predicts(tasks, found)


def test_kernels_that_no_longer_are_the_networks(trained, tmp_path):
    tasks, _ = trained
    kernel = tasks.model.get_layer("dense").kernel
    first = as_numpy(kernel)
    kernel.assign(-first)
    for act in (
        lambda: tasks.add("new"),
        lambda: tasks.switch("cats"),
        lambda: tasks.save(tmp_path / "new"),
    ):
        with pytest.raises(ValueError, match="dense/kernel' of model 'netw"):
            act()
    assert (tasks.names, tasks.current) == (tuple(LABELS), "birds")
    assert not (tmp_path / "new").exists()
    kernel.assign(first)
    tasks.switch("cats")


def test_layers_that_are_no_longer_masked_so(trained, tmp_path):
    tasks, found = trained
    layer = tasks.model.get_layer("dense")
    layer.binarize = False
    for act in (
        lambda: tasks.add("new"),
        lambda: tasks.switch("cats"),
        lambda: tasks.save(tmp_path / "new"),
    ):
        with pytest.raises(ValueError, match=r"'dense.binarize' of model"):
            act()
    layer.binarize = True
    check_predicts(tasks, found)


def test_frozen_parts_belong_to_the_network(tmp_path):
    options = {"frozen_pruned": 0.2, "frozen_kept": 0.1}
    draw = np.random.default_rng(1)
    tasks = mpt.TaskMasks(network(**options))
    found = {}
    for name in LABELS:
        tasks.add(name)
        search(tasks.model, draw)
        found[name] = predictions(tasks.model)
    tasks.save(tmp_path)
    check_predicts(mpt.TaskMasks.load(tmp_path), found)
    tasks.pack()
    check_predicts(tasks, found)


def test_layers_of_the_same_name_in_models_that_are_nested(tmp_path):
    def part(seed):
        options = {"name": "dense", "frozen_kept": 0.1, "seed": seed}
        return keras.Sequential(
            [keras.Input((4,)), mpt.MPTDense(4, **options)], name=f"part{seed}"
        )

    model = keras.Sequential([keras.Input((4,)), part(1), part(2)])
    tasks = mpt.TaskMasks(model)
    tasks.add("one")
    tasks.save(tmp_path)
    images = DRAWN.standard_normal((5, 4)).astype("float32")
    loaded = mpt.TaskMasks.load(tmp_path).model
    assert_same(as_numpy(loaded(images)), as_numpy(model(images)))
    second = model.layers[1].layers[0]
    second.kernel.assign(-as_numpy(second.kernel))
    with pytest.raises(ValueError, match="dense/kernel' of model"):
        tasks.add("two")


def test_infinite_scores_to_begin_with():
    model = network()
    scores = model.get_layer("dense").scores
    drawn = as_numpy(scores)
    scores.assign(np.where(DRAWN.random(drawn.shape) < 0.8, np.inf, drawn))
    tasks = mpt.TaskMasks(model)
    tasks.add("cats")
    scores.assign(drawn)
    predicted = predictions(model)
    tasks.pack()
    tasks.add("dogs")
    tasks.switch("cats")
    assert_same(predictions(model), predicted)
    assert np.isfinite(as_numpy(scores)).all()


def test_normalizations_are_part_of_the_network():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Normalization(), mpt.MPTDense(2)]
    )
    tasks = mpt.TaskMasks(model)
    tasks.add("one")
    model.layers[0].adapt(DRAWN.standard_normal((9, 3)).astype("float32"))
    with pytest.raises(ValueError, match="adapted before"):
        tasks.add("two")


def test_scores_that_are_no_numbers(trained, tmp_path):
    tasks, found = trained
    scores = tasks.model.get_layer("dense").scores
    scores.assign(np.full(scores.shape, np.nan))
    for act in (lambda: tasks.save(tmp_path / "new"), tasks.pack):
        with pytest.raises(ValueError, match=r"NaN.*'dense'"):
            act()
    assert not (tmp_path / "new").exists()
    assert np.isnan(as_numpy(scores)).all()
    tasks.remove("birds")
    del found["birds"]
    check_predicts(tasks, found)


def test_folders_that_hold_something_else(trained, tmp_path):
    tasks, _ = trained
    mpt.TaskMasks(network(seed=7)).save(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.glob("*.*")}
    with pytest.raises(ValueError, match="holds another network"):
        tasks.save(tmp_path)
    assert before == {file: file.read_bytes() for file in tmp_path.glob("*.*")}


def test_indices_that_are_none(trained, tmp_path):
    tasks, _ = trained
    tasks.save(tmp_path)
    for index in (
        "no JSON",
        "[]",
        '{"version": 1, "tasks": ["cats"]}',
        '{"version": 2, "tasks": ["cats"], "current": null}',
        '{"version": 1, "tasks": ["../cats"], "current": null}',
        '{"version": 1, "tasks": ["cats", "cats"], "current": null}',
        '{"version": 1, "tasks": ["cats"], "current": "dogs"}',
        '{"version": 1, "tasks": "cats", "current": null}',
        '{"version": 1, "tasks": [["cats"]], "current": null}',
        '{"version": 1, "tasks": {"cats": 1}, "current": null}',
    ):
        (tmp_path / "tasks.json").write_text(index)
        with pytest.raises(mpt.TicketError, match="is no list of tasks"):
            mpt.TaskMasks.load(tmp_path)


def test_files_that_are_missing_or_damaged(trained, tmp_path):
    tasks, _ = trained
    tasks.save(tmp_path)
    for name in ("tasks.json", "network.ticket", "tasks/dogs.ticket"):
        file = tmp_path / name
        data = file.read_bytes()
        file.unlink()
        with pytest.raises(mpt.TicketError, match=f"no file '.*{file.name}"):
            mpt.TaskMasks.load(tmp_path)
        file.write_bytes(data[: len(data) // 2])
        with pytest.raises(mpt.TicketError, match=file.name):
            mpt.TaskMasks.load(tmp_path)
        file.write_bytes(data)
    mpt.TaskMasks.load(tmp_path)


# --- What is new in updates ------------------------------------------------


def encoded(mask, base_mask):
    """An update of a kernel: base, record, arrays and values."""
    kernel = np.random.default_rng(2).standard_normal(mask.shape)
    kernel = kernel.astype("float32")
    options = {"binarize": False, "scores": SCORES}
    record, arrays, _ = encode_kernel("k", 0, kernel, base_mask, **options)
    base, _ = decode_kernel(record, arrays)
    record, arrays, values = encode_kernel(
        "k", 0, kernel, mask, base=base, **options
    )
    record = json.loads(json.dumps(record))
    stored, again = decode_kernel(record, arrays, base)
    np.testing.assert_array_equal(stored.mask, mask)
    np.testing.assert_array_equal(stored.effective, kernel * mask)
    np.testing.assert_array_equal(again, values)
    return base, record, arrays


SCORES = Draw("kaiming_uniform", seed=1, stream=1, fan_in=40.0, slope=0.0)
SHAPE = (40, 50)
# Where a search began, and one that has nothing to do with it.
FIRST = np.abs(SCORES.values(SHAPE)) > 0.1
RANDOM = np.random.default_rng(3).random(SHAPE) < 0.5


def test_an_update_takes_the_weights_of_its_base():
    base, record, arrays = encoded(RANDOM, np.ones_like(RANDOM))
    assert record["kernel"] == "base"
    assert list(arrays) == ["masks/k"]
    lacks = dataclasses.replace(base, mask=FIRST)
    for other in (lacks, None):
        with pytest.raises(ticket.TicketError):
            decode_kernel(record, arrays, other)


def test_a_mask_that_its_base_says_nothing_of():
    base, record, arrays = encoded(FIRST, RANDOM)
    assert record["kernel"] == "values"
    assert record["alone"] is True
    assert arrays["masks/k"].size < 30
    lies = {**record, "kernel": "base"}
    for other in (base, None):
        with pytest.raises(ticket.TicketError, match="of another ticket"):
            decode_kernel(lies, arrays, other)
    for alone in (False, 1, "yes"):
        with pytest.raises(ticket.TicketError, match="'alone' that none"):
            decode_kernel({**record, "alone": alone}, arrays, base)


def test_a_mask_near_that_of_its_base():
    near = RANDOM.copy()
    near[::7, 3] = ~near[::7, 3]
    _, record, arrays = encoded(near, RANDOM)
    assert "alone" not in record
    assert arrays["masks/k"].size < 80
