"""One dense network for several searches, and tickets between levels."""

import pathlib
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from test_lottery import (
    Training,
    assert_set_back,
    small_network,
    state_file,
    values,
)

from mpt_keras import lottery

TESTS = pathlib.Path(__file__).parent


def search_in(folder, train, **options):
    return lottery.TicketSearch(small_network(), train, folder, **options)


def sharing(tmp_path, name, train, **options):
    options = {"training_steps": 15, "dense": tmp_path / "dense"} | options
    return search_in(tmp_path / name, train, **options)


def levels_of(train):
    return [number for number, _, _ in train.began]


def everything_in(folder):
    """File -> its bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files}


def assert_same_state(one, other):
    for a, b in zip(state_file(one), state_file(other), strict=True):
        np.testing.assert_array_equal(a, b)


# --- A sparsity -----------------------------------------------------------


def test_a_sparsity_branches_off_the_levels(tmp_path):
    model, train = small_network(), Training(1)
    initial = values(model)
    search = lottery.TicketSearch(model, train, tmp_path)
    found = {sparsity: search.at(sparsity) for sparsity in (0.5, 0.45, 0.2)}
    # Three rounds, of which two are the same, and one.
    assert levels_of(train) == [0, 1, 2, 3, 3, 1]
    for sparsity, ticket in found.items():
        assert ticket.folder == tmp_path / f"sparsity-{sparsity}"
        assert ticket.kept == ticket.weights - int(sparsity * ticket.weights)
        source = tmp_path / f"level-{ticket.number - 1:02d}"
        lottery.load_state(model, source / "trained.npz")
        with np.load(source / "masks.npz") as file:
            before = dict(file)
        expected = lottery.Magnitude().masks_at(
            lottery.kernel_values(model), sparsity, before
        )
        for name, mask in ticket.masks().items():
            np.testing.assert_array_equal(mask, expected[name])
            assert (mask <= before[name]).all()
    assert_set_back(train.began[3][2], initial, model, found[0.5].masks())
    # Once found it is not trained again, nor where a level is as sparse.
    *_, level = search.run(1)
    assert search.at(0.5) == found[0.5]
    assert search.at(level.sparsity) == level
    assert search.at(0.0).number == 0
    assert len(train.began) == 6
    search.load(found[0.5])
    for name, kernel in lottery.kernel_values(model).items():
        assert not kernel[~found[0.5].masks()[name]].any()


def test_a_sparsity_at_once(tmp_path):
    train = Training(1)
    search = search_in(tmp_path, train, one_shot=True)
    ticket, sparser = search.at(0.5), search.at(0.8)
    assert levels_of(train) == [0, 3, 8]
    lottery.load_state(search.model, tmp_path / "level-00/trained.npz")
    weights = lottery.kernel_values(search.model)
    for found, sparsity in ((ticket, 0.5), (sparser, 0.8)):
        assert found.kept == found.weights - int(sparsity * found.weights)
        expected = search.pruning.masks_at(weights, sparsity)
        for name, mask in found.masks().items():
            np.testing.assert_array_equal(mask, expected[name])


def test_controls_of_a_sparsity(tmp_path):
    train = Training(2)
    search = search_in(
        tmp_path,
        train,
        rewind_step=5,
        training_steps=10,
        rewind_weights=False,
    )
    ticket = search.at(0.4)
    draws = [search.control(ticket, "random_masks", seed) for seed in (0, 1)]
    drawn = search.control(ticket, "reinitialized", seed=3)
    again = search.retrain(ticket, "again", "initial")
    for control in (*draws, drawn, again):
        assert control.folder.parent == ticket.folder
        assert (control.number, control.kept) == (ticket.number, ticket.kept)
    # With the weights that were pruned.
    source = tmp_path / f"level-{ticket.number - 1:02d}/trained.npz"
    for draw, (_, _, began) in zip(draws, train.began[-4:-2], strict=True):
        assert_set_back(began, state_file(source), search.model, draw.masks())
    masks = [draw.masks()["hidden"] for draw in draws]
    assert not np.array_equal(*masks)
    assert again.masks().keys() == ticket.masks().keys()
    # By number as by ticket; a control has none of its own.
    *_, level = search.run(1)
    by_number = search.control(1, "random_masks")
    assert search.control(level, "random_masks") == by_number
    other = search_in(tmp_path / "other", train)
    for stranger in (drawn, *other.run(0)):
        with pytest.raises(ValueError, match=r"no ticket of '.*'\. Expe"):
            search.control(stranger, "random_masks")


def test_a_sparsity_continues_between_and_within_levels(tmp_path):
    expected = search_in(tmp_path / "whole", Training()).at(0.3)
    stops = (2, 5, 8)  # in level 0, in level 1, in the branch
    for stop in stops:
        stopped = Training(stop_at=stop)
        folder = tmp_path / f"{stop}"
        with pytest.raises(KeyboardInterrupt):
            search_in(folder, stopped).at(0.3)
        again = Training()
        found = search_in(folder, again).at(0.3)
        done = stop - 1
        assert again.steps == [0, 1, 2, 0, 1, 2, 0, 1, 2][done:]
        assert (found.layers, found.result) == (
            expected.layers,
            expected.result,
        )
        assert_same_state(
            found.folder / "trained.npz", expected.folder / "trained.npz"
        )


def test_a_sparsity_out_of_reach_trains_nothing(tmp_path):
    train = Training(1)
    pruning = lottery.Magnitude(rates={"hidden": 0})
    search = search_in(tmp_path, train, pruning=pruning)
    for sparsity, message in (
        (0.5, r"no more than 31 .*\['hidden'\].* at most 0\.05"),
        (1.0, "sparsity=1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            search.at(sparsity)
    assert not train.began


# --- A dense network ------------------------------------------------------


def test_searches_share_a_dense_network(tmp_path):
    first = Training()
    search = sharing(tmp_path, "a", first, rewind_step=5, keep_steps=[10])
    dense, *_ = search.run(1)
    assert dense.folder == tmp_path / "dense/level-00"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "level-01",
        "search.json",
    ]
    before = everything_in(tmp_path / "dense")
    for name, options in {
        "initial": {},
        "later": {"rewind_step": 10},
        "rates": {"rewind_step": 10, "rewind_weights": False},
        "at once": {"one_shot": True, "rewind_step": 5},
        "other": {"pruning": lottery.Magnitude(0.5, "global")},
    }.items():
        train = Training()
        found = sharing(tmp_path, name, train, **options)
        tickets = list(found.run(1))
        assert tickets[0] == dense
        assert levels_of(train) == [1]
        step = options.get("rewind_step", 0)
        state = dense.folder.parent / f"rewind-{step}.npz"
        if step == 0:
            state = dense.folder.parent / "initial.npz"
        if name == "rates":
            state = dense.folder / "trained.npz"
        assert_set_back(
            train.began[0][2],
            state_file(state),
            found.model,
            tickets[1].masks(),
        )
        assert train.steps == [0, 1, 2][step // 5 :]
        # Another training of the dense network is that search's own.
        again = found.retrain(0, "again", "reinitialized")
        assert again.folder == tmp_path / name / "level-00/again"
    assert everything_in(tmp_path / "dense") == before
    # As a search alone finds them.
    *_, alone = search_in(tmp_path / "alone", Training()).run(1)
    one = tmp_path / "initial/level-01/trained.npz"
    assert_same_state(one, alone.folder / "trained.npz")


def test_a_dense_training_continues_for_another_search(tmp_path):
    stopped = Training(stop_at=2)
    search = sharing(tmp_path, "a", stopped, keep_steps=[5, 10])
    with pytest.raises(KeyboardInterrupt):
        next(search.run(0))
    train = Training()
    search = sharing(tmp_path, "b", train, rewind_step=5, keep_steps=[10])
    list(search.run(0))
    assert train.steps == [1, 2]
    names = {path.name for path in (tmp_path / "dense").iterdir()}
    assert {"rewind-5.npz", "rewind-10.npz"} < names


def test_dense_networks_that_do_not_fit(tmp_path):
    search = sharing(tmp_path, "a", Training(), keep_steps=[5])
    before = everything_in(tmp_path)
    for options, message in (
        ({"rewind_step": 10}, r"after the steps \[5\]. Received: \[10\]"),
        ({"keep_steps": [5, 10]}, r"Received: \[10\].*`keep_steps`"),
        ({"training_steps": 20}, "another dense network.*training_steps: 15"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Nothing was"):
            sharing(tmp_path, "b", None, **options)
    model = small_network()
    lottery.prunable_kernels(model)["last"].assign(np.ones((8, 4)))
    narrow = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Dense(4, name="last")]
    )
    options = {"training_steps": 15, "dense": tmp_path / "dense"}
    for other, message in (
        (model, r"small/last/kernel: another initial value.*load_state"),
        (narrow, r"another dense network.*kernels\.hidden: \[72, 8\] there"),
    ):
        with pytest.raises(ValueError, match=message):
            lottery.TicketSearch(other, None, tmp_path / "b", **options)
    assert everything_in(tmp_path) == before
    # Nor does a search leave its dense network, or lend it.
    for name, dense in (("a", None), ("a", tmp_path / "other")):
        with pytest.raises(ValueError, match=r"another search.*dense: \.\./"):
            sharing(tmp_path, name, None, dense=dense)
    search_in(tmp_path / "alone", None)
    with pytest.raises(ValueError, match="a search that shares nothing"):
        sharing(tmp_path, "b", None, dense=tmp_path / "alone")
    assert search.folder == tmp_path / "a"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_steps": [5]}, r"Expected a folder `dense`.*keep_steps=\[5\]"),
        ({"keep_steps": [15], "dense": "x"}, "before the end, 15"),
        ({"keep_steps": [0.5], "dense": "x"}, "keep_steps=0.5"),
    ],
)
def test_bad_steps_to_keep(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        search_in("new", None, training_steps=15, **options)
    assert not list(tmp_path.iterdir())


def test_sharing_needs_filelock(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(ImportError, match=r'"mpt_keras\[experiments\]"'):
        sharing(tmp_path, "a", None)
    assert not list(tmp_path.iterdir())
    search_in(tmp_path / "alone", None)


def test_both_folders_can_be_moved(tmp_path):
    list(sharing(tmp_path / "old", "a", Training(1)).run(0))
    (tmp_path / "old").rename(tmp_path / "new")
    train = Training(1)
    (ticket,) = sharing(tmp_path / "new", "a", train).run(0)
    assert ticket.folder == tmp_path / "new/dense/level-00"
    assert not train.began


def test_folders_begun_when_one_state_was_kept(tmp_path):
    options = {"rewind_step": 5, "training_steps": 15}
    (dense,) = search_in(tmp_path, Training(), **options).run(0)
    (tmp_path / "rewind-5.npz").rename(tmp_path / "rewind.npz")
    train = Training()
    first, ticket = search_in(tmp_path, train, **options).run(1)
    assert first == dense
    assert_set_back(
        train.began[0][2],
        state_file(tmp_path / "rewind.npz"),
        small_network(),
        ticket.masks(),
    )


PROCESS = """
import pathlib, sys, time
import keras
sys.path.insert(0, {tests!r})
import test_lottery_dense as tests

here = pathlib.Path({folder!r})

class Slow(tests.Training):
    def maybe_stop(self, epoch, logs=None):
        # In the second epoch, the first of which is kept.
        if len(self.steps) == 2:
            (here / "half done").touch()
            while not (here / "go on").exists():
                time.sleep(0.02)

list(tests.sharing(here, "a", Slow()).run(0))
"""


@pytest.mark.parametrize("ends", ["finished", "killed"])
def test_two_processes_share_a_dense_network(ends, tmp_path):
    script = PROCESS.format(tests=str(TESTS), folder=str(tmp_path))
    first = subprocess.Popen([sys.executable, "-c", script])
    try:
        while not (tmp_path / "half done").exists():
            assert first.poll() is None, "the first process ended early"
            time.sleep(0.02)
        train = Training()
        second = sharing(tmp_path, "b", train)

        def end():
            # Once the other waits.
            if ends == "killed":
                first.kill()
            else:
                (tmp_path / "go on").touch()

        timer = threading.Timer(0.5, end)
        timer.start()
        (dense,) = second.run(0)
        timer.join()
    finally:
        first.kill()
        first.wait()
    assert train.steps == {"finished": [], "killed": [1, 2]}[ends]
    (alone,) = search_in(tmp_path / "alone", Training()).run(0)
    assert_same_state(
        dense.folder / "trained.npz", alone.folder / "trained.npz"
    )
    assert dense.result == alone.result
