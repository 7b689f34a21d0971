"""The runs that a sweep is made of."""

import pytest

from mpt_keras.experiments import Search, WinningTicket
from mpt_keras.experiments.methods import METHODS, SEARCHES, Axes
from mpt_keras.experiments.tickets import WAYS


def units(settings=None, **axes):
    return Axes(**axes).units(settings or {})


def names(*args, **axes):
    return [name for name, _ in units(*args, **axes)]


def test_every_method_once_before_a_second_seed():
    found = names(
        methods=("mpt_1_32", "dense", "one_shot", "winning_ticket"),
        sparsities=(0.5, 0.9),
        seeds=(0, 1),
    )
    once = [
        *("mpt_1_32-0.5-seed0", "mpt_1_32-0.9-seed0", "dense-seed0"),
        "tickets-seed0",
    ]
    assert found == once + [name.replace("seed0", "seed1") for name in once]


def test_widths_are_an_axis():
    found = units(methods=("edge_popup", "dense"), widths=(0.5, 1.0))
    assert [(name, experiment.width) for name, experiment in found] == [
        ("edge_popup-0.5-width0.5-seed0", 0.5),
        ("dense-width0.5-seed0", 0.5),
        ("edge_popup-0.5-seed0", 1.0),
        ("dense-seed0", 1.0),
    ]


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_is_called_as_the_method_that_it_is(method):
    settings = {"model": "resnet18", "epochs": 30, "batch_size": 32}
    ((name, search),) = units(settings, methods=(method,), sparsities=(0.7,))
    pruned = "" if method.startswith("dense") else "-0.7"
    assert name == f"{method}{pruned}-seed0"
    in_force = search.followed().settings
    assert in_force.method_name() == method
    assert in_force.sparsity == (0.7 if pruned else None)
    assert (in_force.epochs, in_force.batch_size) == (30, 32)


def test_all_ordinary_tickets_are_of_one_run():
    ((_, experiment),) = units(
        {"rewind_steps": (0, 5)}, methods=WAYS, sparsities=(0.0, 0.5, 0.9)
    )
    assert experiment == WinningTicket(
        ways=WAYS, sparsities=(0.5, 0.9), rewind_steps=(0, 5)
    )


def test_settings_hold_where_they_have_an_effect():
    settings = {"momentum": 0.5, "global_sparsity": True, "pruning_rate": 0.1}
    settings |= {"optimizer": "sgd", "epochs": 20, "draws": 2}
    found = dict(units(settings, methods=("mpt_1_1", "dense", "random_masks")))
    search, dense, tickets = found.values()
    common = {"momentum": 0.5, "optimizer": "sgd", "epochs": 20}
    assert dense == Search(method="dense", **common)
    assert search == Search(
        method="biprop",
        binary_activations=True,
        sparsity=0.5,
        global_sparsity=True,
        **common,
    )
    assert tickets == WinningTicket(
        ways=("random_masks",),
        sparsities=(0.5,),
        draws=2,
        pruning_rate=0.1,
        **common,
    )


def test_all_methods_make_runs():
    settings = {"model": "resnet18", "rewind_steps": (7,), "dataset": "digits"}
    found = units(settings, methods=METHODS, sparsities=(0.5, 0.9), seeds=(0,))
    assert len(found) == 2 + 2 * (len(SEARCHES) - 2) + 1
    assert len(dict(found)) == len(found)
    for _, experiment in found:
        assert experiment.followed().settings.dataset == "digits"


# --- Refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "axes", "message"),
    [
        ({}, {"methods": ()}, "`methods`. Expected one or more"),
        ({}, {"seeds": ()}, "`seeds`. Expected one or more"),
        ({"sparsty": 0.5}, {}, "sparsty is no setting of a sweep. Expected"),
        ({"sparsity": 0.5}, {}, "sparsity is no setting of a sweep"),
        ({"recipe": "biprop_conv"}, {}, "recipe is no setting of a sweep"),
        ({"width": 0.5}, {"widths": (0.5,)}, "width is one of widths"),
        (
            {"draws": 3},
            {"methods": ("dense", "mpt_1_32")},
            "draws=3 has no effect with the methods dense, mpt_1_32",
        ),
        (
            {"global_sparsity": True},
            {"methods": ("dense",)},
            "global_sparsity=True has no effect with the methods dense",
        ),
        ({"epochs": 0}, {}, "`epochs`. Expected an integer of 1 or more"),
        (
            {},
            {"methods": ("winning_ticket",), "sparsities": (0.0,)},
            "winning_ticket",
        ),
    ],
)
def test_what_makes_no_sweep(settings, axes, message):
    with pytest.raises(ValueError, match=message):
        units(settings, **axes)


def test_a_method_that_the_network_has_not():
    with pytest.raises(ValueError, match=r"mpt_1_32_bn-0.*: trained"):
        units({"model": "conv4"}, methods=("mpt_1_32_bn",))


def test_later_states_need_a_step():
    with pytest.raises(ValueError, match="Expected a step above 0"):
        units(methods=("kd_rewinding",))
