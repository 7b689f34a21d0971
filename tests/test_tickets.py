"""Tickets of ordinary networks: what runs find, and how they go on."""

import json
import shutil

import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras.callbacks import AtomicBackup
from mpt_keras.experiments import (
    Distilled,
    RunError,
    WinningTicket,
    training,
)
from mpt_keras.experiments.training import Stopped

pytest.importorskip("sklearn")

# Of LeNet at a tenth of its width, and the fraction that a round prunes.
SIZES = {64 * 30: 0.2, 30 * 10: 0.2, 10 * 10: 0.1}
WEIGHTS = sum(SIZES)
STEPS = 21  # of an epoch: 1293 images
TICKETS = WinningTicket(
    dataset="digits",
    width=0.1,
    epochs=2,
    batch_size=64,
    rounds=2,
    rewind_steps=(STEPS + 9,),
    ways=("winning_ticket", "random_masks"),
)
QUIET = {"verbose": "0"}


def counts(rounds):
    """Weights kept after so many rounds, each layer by its own rate."""
    return sum(
        n - int((1 - (1 - rate) ** rounds) * n + 1e-9)
        for n, rate in SIZES.items()
    )


def kernels(folder):
    return mpt.lottery.kernel_values(
        keras.models.load_model(folder / "last.keras")
    )


def assert_same(found, expected):
    """The same lines and trained networks, whatever the order of lines."""
    assert {line["folder"] for line in found.lines} == {
        line["folder"] for line in expected.lines
    }
    lines = {line["folder"]: line for line in found.lines}
    for line in expected.lines:
        other = lines[line["folder"]]
        assert line.keys() == other.keys()
        for name, value in line.items():
            if "second" not in name and name not in (
                *("settings", "ticket_bytes"),
            ):
                assert value == other[name], (line["folder"], name)
        for one, other in zip(
            found.model(line).get_weights(),
            expected.model(line).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other, line["folder"])


@pytest.fixture
def trained(monkeypatch):
    """Folders of the trainings that begin, in their order."""
    found = []
    train = training.train

    def note(network, prepared, folder, *args, **kwargs):
        found.append(folder)
        return train(network, prepared, folder, *args, **kwargs)

    monkeypatch.setattr(training, "train", note)
    return found


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return TICKETS.run(tmp_path_factory.mktemp("runs") / "a", **QUIET)


# --- What is found --------------------------------------------------------


def test_winning_tickets(result):
    step = STEPS + 9
    found = [
        (line["method"], line["rewind_step"], line["rounds"])
        for line in result.lines
    ]
    assert found == [
        ("unpruned", None, 0),
        ("winning_ticket", step, 1),
        ("random_masks", step, 1),
        ("winning_ticket", step, 2),
        ("random_masks", step, 2),
    ]
    for line in result.lines:
        assert line["weights"] == WEIGHTS
        assert line["weights_kept"] == counts(line["rounds"])
        if line["rounds"]:
            pruned = 1 - counts(line["rounds"]) / WEIGHTS
            assert line["sparsity"] == pytest.approx(pruned, abs=1e-6)
        assert line["settings"]["rewind_steps"] == [step]
        assert line["model"] == "lenet_300_100"
    assert result.figures == result.lines[-1]
    assert result.lines[0]["sparsity"] is None
    assert result.lines[0]["ticket_bytes"] is None
    assert "draw" not in result.lines[1]
    assert result.lines[2]["draw"] == 0


def test_the_files_of_a_ticket(result):
    for line in result.lines[1:]:
        folder = result.folder / line["folder"]
        model = keras.models.load_model(folder / "last.keras")
        values = mpt.lottery.kernel_values(model)
        masks = mpt.analysis.read_masks(folder)
        assert masks.keys() == values.keys()
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert kept == line["weights_kept"]
        for name, mask in masks.items():
            np.testing.assert_array_equal(values[name][~mask], 0)
        ticket = folder / line["ticket"]
        assert ticket.stat().st_size == line["ticket_bytes"]
        image = np.full((1, 8, 8, 1), 7, "uint8")
        np.testing.assert_allclose(
            mpt.load_ticket(ticket).predict(image, verbose=0),
            model.predict(image, verbose=0),
            rtol=1e-5,
            atol=1e-5,
        )


def test_tickets_are_set_back_into_an_epoch(result):
    """The epochs of a ticket are those from its step on."""
    whole = result.history(result.lines[0])
    assert [row["epoch"] for row in whole] == [0, 1]
    for line in result.lines[1:]:
        (row,) = result.history(line)
        assert row["epoch"] == 1
        assert line["epochs"] == 2
        # Of the second epoch's steps all but the first nine, but for one.
        images = 1293 - (9 + 1) * 64
        assert line["images_per_second"] == pytest.approx(
            images / row["training_seconds"], rel=1e-3
        )
    rewound = np.load(result.folder / "unpruned" / f"rewind-{STEPS + 9}.npz")
    assert rewound.files


def test_random_masks_are_others(result):
    line, control = result.lines[1:3]
    masks, others = (
        mpt.analysis.read_masks(result.folder / one["folder"])
        for one in (line, control)
    )
    for name, mask in masks.items():
        assert mask.sum() == others[name].sum()
        assert not np.array_equal(mask, others[name])


def test_all_from_one_dense_training(trained, tmp_path):
    """Rewound to several steps, in rounds, at once, and by the rate alone."""
    tickets = TICKETS.replace(
        rounds=None,
        sparsities=(0.7,),
        pruning_rate=0.9,
        rewind_steps=(0, 5),
        ways=("winning_ticket", "one_shot", "learning_rate_rewinding"),
        epochs=1,
    )
    result = tickets.run(tmp_path / "run", **QUIET)
    assert len(trained) == len(result.lines) == 7
    unpruned, *lines = result.lines
    assert {line["sparsity"] for line in lines} == {0.7}
    assert {line["weights_kept"] for line in lines} == {
        WEIGHTS - int(0.7 * WEIGHTS)
    }
    assert [(line["method"], line["rewind_step"]) for line in lines] == [
        (method, step)
        for step in (0, 5)
        for method in (
            *("winning_ticket", "learning_rate_rewinding", "one_shot"),
        )
    ]
    assert trained[0] == tmp_path / "run" / unpruned["folder"]
    # One round is one shot; what is set back is not what is kept.
    dense = kernels(trained[0])
    for step in range(2):
        winning, kept, at_once = (
            kernels(result.folder / line["folder"])
            for line in lines[3 * step : 3 * step + 3]
        )
        for name, values in winning.items():
            np.testing.assert_array_equal(values, at_once[name])
            mask = values != 0
            np.testing.assert_array_equal(kept[name] != 0, mask)
            assert not np.array_equal(kept[name], values)
            assert np.abs(dense[name][mask]).mean() > (
                np.abs(dense[name][~mask]).mean()
            )


def test_distilled_tickets(trained, tmp_path):
    distilled = Distilled(
        dataset="digits",
        model="conv2",
        width=0.1,
        epochs=2,
        batch_size=64,
        rewind_steps=(STEPS,),
        sparsities=(0.1,),
        only_convolutions=True,
        learning_rate=0.002,
    )
    result = distilled.run(tmp_path / "run", **QUIET)
    assert [(line["method"], line["rewind_step"]) for line in result.lines] == [
        ("unpruned", None),
        ("one_shot", STEPS),
        ("retraining", 0),
        ("kd_ticket", 0),
        ("kd_rewinding", STEPS),
    ]
    assert len(trained) == 5
    lines = {line["method"]: line for line in result.lines[1:]}
    first = mpt.analysis.read_masks(result.folder / lines["one_shot"]["folder"])
    assert all(mask.all() for name, mask in first.items() if "conv" not in name)
    values = {}
    for method, line in lines.items():
        folder = result.folder / line["folder"]
        masks = mpt.analysis.read_masks(folder)
        values[method] = kernels(folder)
        for name, mask in masks.items():
            np.testing.assert_array_equal(mask, first[name])
            np.testing.assert_array_equal(values[method][name][~mask], 0)
        taught = method.startswith("kd")
        assert any("distillation" in k for k in result.history(line)[0]) == (
            taught
        )
        assert not isinstance(result.model(line), keras.distillation.Distiller)
    # The same start, another teacher.
    for one, other in (
        ("retraining", "kd_ticket"),
        ("one_shot", "kd_rewinding"),
    ):
        assert any(
            not np.array_equal(values[one][name], values[other][name])
            for name in first
        )


# --- Continued ------------------------------------------------------------


def test_nothing_is_trained_twice(result, trained, tmp_path):
    folder = shutil.copytree(result.folder, tmp_path / "run")
    again = TICKETS.run(folder, resume=True, **QUIET)
    assert again.lines == result.lines
    assert trained == []


def test_stopped_and_asked_for_more(result, trained, tmp_path):
    """The same as asked for at once; more ways, rounds, and draws."""
    folder = tmp_path / "run"
    first = TICKETS.replace(rounds=1, ways=("winning_ticket",))
    back_up = AtomicBackup.on_epoch_end
    for name, epochs in (("level-00", 1), ("level-01", 2)):

        def stop(self, epoch, logs=None, name=name):
            back_up(self, epoch, logs)
            if trained[-1].name == name:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AtomicBackup, "on_epoch_end", stop)
            with pytest.raises(Stopped) as caught:
                first.run(folder, resume=True, **QUIET)
        assert (caught.value.folder, caught.value.epochs) == (folder, epochs)
    found = first.run(folder, resume=True, **QUIET)
    assert [line["rounds"] for line in found.lines] == [0, 1]
    before = len(trained)
    found = TICKETS.run(folder, resume=True, **QUIET)
    assert len(trained) - before == 3
    assert_same(found, result)
    settings = json.loads((folder / "run.json").read_text())["settings"]
    assert settings["rounds"] == 2
    more = TICKETS.replace(rounds=1, draws=2).run(folder, resume=True, **QUIET)
    assert len(trained) - before == 4
    assert more.lines[:-1] == found.lines
    last = more.lines[-1]
    assert (last["method"], last["rounds"], last["draw"]) == (
        *("random_masks", 1, 1),
    )
    (zeroth,) = (
        line
        for line in found.lines
        if line["method"] == "random_masks" and line["rounds"] == 1
    )
    masks, others = (
        mpt.analysis.read_masks(folder / line["folder"])
        for line in (zeroth, last)
    )
    assert any(
        not np.array_equal(mask, others[name]) for name, mask in masks.items()
    )
    with pytest.raises(RunError, match="epochs is 2 there and 3 here"):
        TICKETS.replace(epochs=3).run(folder, resume=True, **QUIET)


def test_a_line_cut_in_half_is_written_again(result, trained, tmp_path):
    folder = shutil.copytree(result.folder, tmp_path / "run")
    file = folder / "lines.jsonl"
    file.write_text(file.read_text()[:-200])
    again = TICKETS.run(folder, resume=True, **QUIET)
    assert again.lines == result.lines
    assert trained == []


# --- Refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rewind_steps": (2 * STEPS,)}, "Expected steps before the end, 42"),
        ({"model": "nowhere:build"}, "No network 'nowhere:build'"),
        (
            {"pruning_rate": 0.0},
            r"`pruning_rate`\. Expected a number in",
        ),
        (
            {"sparsities": (0.5, 0.9999), "rounds": None},
            r"A sparsity of 0\.9999 prunes 2319 of 2320 weights, but no more",
        ),
    ],
    ids=str,
)
def test_what_cannot_run(said, message, tmp_path, trained):
    with pytest.raises((RunError, ValueError), match=message):
        TICKETS.replace(**said).run(tmp_path / "run", **QUIET)
    assert trained == []
    assert not (tmp_path / "run").exists()
