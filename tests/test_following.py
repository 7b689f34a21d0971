"""The settings in force: said, of the published table, usual, or refused."""

import itertools
import types

import pytest
from hypothesis import given, settings, strategies

from mpt_keras.experiments import (
    Distilled,
    Search,
    WinningTicket,
    networks,
    published,
    recipes,
    search,
)
from mpt_keras.experiments.settings import NoEffectError

CONV, FC, VGG = "conv4", "lenet_300_100", "vgg_small"
BINARY_VGG = "vgg_small_norm_at_pools"
# As published: optimizer, learning rate, its schedule, decay of the scores,
# batch, epochs, whether batch norms are trained, binary activations, network.
TABLE = {
    "edge_popup_conv": ("sgd", 0.1, "cosine", 1e-4, 128, 100, 0, 0, CONV),
    "edge_popup_fc": ("sgd", 0.1, "cosine", 1e-4, 128, 100, 0, 0, FC),
    "edge_popup_resnet18": (
        *("sgd", 0.1, "cosine", 5e-4, 256, 100, 0, 0, "resnet18"),
    ),
    "edge_popup_conv_signed": (
        *("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, CONV),
    ),
    "edge_popup_iterand_conv": (
        *("sgd", 0.3, "cosine", 1e-4, 128, 100, 0, 0, "conv6"),
    ),
    "edge_popup_iterand_resnet18": (
        *("sgd", 0.1, "cosine", 5e-4, 128, 100, 0, 0, "resnet18"),
    ),
    "edge_popup_iterand_conv_rerun": (
        *("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, CONV),
    ),
    "edge_popup_recycling_conv": (
        *("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, CONV),
    ),
    "edge_popup_recycling_conv6": (
        *("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, "conv6"),
    ),
    "edge_popup_recycling_conv6_normal": (
        *("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, "conv6"),
    ),
    "edge_popup_recycling_resnet18": (
        *("sgd", 0.1, "cosine", 5e-4, 128, 250, 0, 0, "resnet18"),
    ),
    "biprop_recycling_conv": (
        *("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, CONV),
    ),
    "biprop_recycling_resnet18": (
        *("sgd", 0.1, "cosine", 5e-4, 128, 200, 0, 0, "resnet18"),
    ),
    "biprop_conv": ("sgd", 0.1, "cosine", 1e-4, 128, 250, 0, 0, CONV),
    "biprop_conv_binary": ("adam", 0.1, "cosine", 0, 128, 250, 0, 1, CONV),
    "biprop_vgg": ("adam", 0.1, "cosine", 0, 128, 100, 0, 0, VGG),
    "biprop_vgg_bn": ("adam", 0.1, "cosine", 0, 128, 100, 1, 0, VGG),
    "biprop_vgg_binary": (
        *("adam", 2e-4, "cosine", 0, 128, 100, 0, 1, BINARY_VGG),
    ),
    "biprop_vgg_binary_bn": (
        *("adam", 2e-4, "cosine", 0, 128, 100, 1, 1, BINARY_VGG),
    ),
    "biprop_wide_vgg_binary": ("adam", 0.1, "cosine", 0, 128, 100, 0, 1, VGG),
    "biprop_wide_vgg_binary_bn": (
        *("adam", 2e-4, "cosine", 0, 128, 100, 1, 1, VGG),
    ),
    "biprop_resnet18": (
        *("sgd", 0.1, "cosine", 5e-4, 256, 100, 0, 0, "resnet18"),
    ),
    "biprop_resnet18_bn": (
        *("sgd", 0.1, "cosine", 5e-4, 256, 100, 1, 0, "resnet18"),
    ),
    "biprop_resnet18_binary": (
        *("adam", 0.1, "cosine", 0, 256, 100, 0, 1, "resnet18"),
    ),
    "biprop_resnet18_binary_bn": (
        *("adam", 0.1, "cosine", 0, 256, 100, 1, 1, "resnet18"),
    ),
    "biprop_resnet20": (
        *("sgd", 0.1, "cosine", 5e-4, 256, 100, 0, 0, "resnet20"),
    ),
    "biprop_resnet20_bn": (
        *("sgd", 0.1, "cosine", 5e-4, 256, 100, 1, 0, "resnet20"),
    ),
    "biprop_resnet20_binary": (
        *("adam", 0.1, "cosine", 0, 256, 100, 0, 1, "resnet20"),
    ),
    "biprop_resnet20_binary_bn": (
        *("adam", 0.1, "cosine", 0, 256, 100, 1, 1, "resnet20"),
    ),
    "dense_conv": ("sgd", 0.01, "cosine", 1e-4, 128, 100, 0, 0, CONV),
    "dense_conv2_adam": ("adam", 2e-4, "constant", 0, 60, 100, 0, 0, "conv2"),
    "dense_conv_adam": ("adam", 3e-4, "constant", 0, 60, 100, 0, 0, CONV),
    "dense_fc": ("adam", 1.2e-3, "constant", 0, 60, 100, 0, 0, FC),
    "dense_resnet18": (
        *("sgd", 0.1, "cosine", 5e-4, 256, 100, 1, 0, "resnet18"),
    ),
}
DECAY, WIDE = 2.0**-15, "imagenet_wide_resnet50_2"
RESNET, WIDE_34 = "imagenet_resnet50", "imagenet_wide_resnet34_2"
# The same; all with label smoothing 0.1, all but the last two with 5 epochs of
# warm-up, SGD with momentum 0.875.
IMAGENET_TABLE = {
    "edge_popup_resnet": (
        *("sgd", 0.256, "cosine", DECAY, 256, 100, 0, 0, RESNET),
    ),
    "edge_popup_resnet_signed": (
        *("sgd", 0.1, "cosine", DECAY, 256, 100, 0, 0, RESNET),
    ),
    "edge_popup_wide_resnet": (
        *("sgd", 0.128, "cosine", DECAY, 256, 100, 0, 0, WIDE),
    ),
    "biprop_resnet": ("sgd", 0.256, "cosine", DECAY, 256, 100, 0, 0, RESNET),
    "biprop_resnet_bn": ("sgd", 0.256, "cosine", DECAY, 256, 100, 1, 0, RESNET),
    "biprop_resnet_binary": (
        *("adam", 0.256, "cosine", 0, 256, 100, 0, 1, RESNET),
    ),
    "biprop_resnet_binary_bn": (
        *("adam", 0.256, "cosine", 0, 256, 100, 1, 1, RESNET),
    ),
    "biprop_wide_resnet": (
        *("sgd", 0.128, "cosine", DECAY, 256, 100, 0, 0, WIDE),
    ),
    "biprop_wide_resnet_bn": (
        *("sgd", 0.256, "cosine", DECAY, 256, 100, 1, 0, WIDE),
    ),
    "biprop_wide_resnet34": (
        *("sgd", 0.256, "cosine", DECAY, 256, 100, 0, 0, WIDE_34),
    ),
    "biprop_wide_resnet34_binary": (
        *("adam", 2e-4, "constant", 0, 256, 120, 0, 1, WIDE_34),
    ),
    "biprop_wide_resnet34_binary_bn": (
        *("adam", 2e-4, "constant", 0, 256, 120, 1, 1, WIDE_34),
    ),
}
# Fraction replaced, every how many epochs, random weights and their scale.
RECYCLING = {
    "edge_popup_iterand_conv": (0.1, 300, "kaiming_normal", "none"),
    "edge_popup_iterand_resnet18": (0.1, 300, "kaiming_normal", "none"),
    "edge_popup_iterand_conv_rerun": (0.1, 1, "kaiming_normal", "none"),
    "edge_popup_recycling_conv": (0.1, 3, "signed_constant", "none"),
    "edge_popup_recycling_conv6": (0.2, 10, "signed_constant", "none"),
    "edge_popup_recycling_conv6_normal": (0.1, 3, "kaiming_normal", "authors"),
    "edge_popup_recycling_resnet18": (0.2, 10, "signed_constant", "none"),
    "biprop_recycling_conv": (0.2, 10, "kaiming_normal", "none"),
    "biprop_recycling_resnet18": (0.2, 10, "kaiming_normal", "none"),
}
# Optimizer, learning rate, schedule, milestones, batch, epochs, rates of
# dense and of convolution kernels, scope, step to go back to.
LOTTERY = {
    "lottery_fc": (
        *("adam", 1.2e-3, "constant", None, 60, 50),
        *(0.2, None, "layer", None),
    ),
    "lottery_conv2": (
        *("adam", 2e-4, "constant", None, 60, 24, 0.2, 0.1, "layer", None),
    ),
    "lottery_conv": (
        *("adam", 3e-4, "constant", None, 60, 30, 0.2, 0.1, "layer", None),
    ),
    "lottery_conv6": (
        *("adam", 3e-4, "constant", None, 60, 36, 0.2, 0.15, "layer", None),
    ),
    "lottery_resnet20": (
        *("sgd", 0.1, "steps", (80, 120), 128, 160),
        *(0.2, None, "global", (500,)),
    ),
}
COLUMNS = (
    *("optimizer", "learning_rate", "schedule", "score_decay", "batch_size"),
    *("epochs", "trained_batch_norm", "binary_activations", "model"),
)


def follow(cls=Search, **said):
    return cls(**said).followed()


def in_force(cls=Search, **said):
    return follow(cls, **said).settings


# --- The published rows ---------------------------------------------------


@pytest.mark.parametrize("table", [TABLE, IMAGENET_TABLE], ids=len)
def test_rows_are_the_published_ones(table):
    rows = recipes.SMALL if table is TABLE else recipes.IMAGENET
    assert rows.keys() == table.keys()
    for name, values in table.items():
        found = in_force(recipe=name)
        assert [getattr(found, column) for column in COLUMNS] == [*values], name
        assert found.method == name.split("_")[0].replace("edge", "edge_popup")
        assert found.width == (1.25 if "wide_vgg" in name else 1.0)
        if found.optimizer == "sgd":
            assert found.momentum == (0.9 if table is TABLE else 0.875)
        if table is IMAGENET_TABLE:
            assert found.label_smoothing == 0.1
            assert found.warmup_epochs == (0 if found.epochs == 120 else 5)


def test_rows_of_recycling_are_the_published_ones():
    columns = ("recycled_fraction", "recycling_every")
    columns += ("kernel_initializer", "scale_fan")
    found = {}
    for name in recipes.SMALL:
        settings = in_force(recipe=name)
        if settings.recycling not in (None, "none"):
            found[name] = tuple(getattr(settings, name) for name in columns)
    assert found == RECYCLING


def test_rows_of_ordinary_networks_are_the_published_ones():
    columns = ("optimizer", "learning_rate", "schedule", "milestones")
    columns += ("batch_size", "epochs", "pruning_rate", "convolution_rate")
    columns += ("scope", "rewind_steps")

    def values(row):
        return tuple(row.get(column) for column in columns)

    found = {name: values(row) for name, row in recipes.LOTTERY.items()}
    assert found == LOTTERY
    distilled = recipes.KD["kd_resnet18"]
    assert values(distilled) == (
        *("sgd", 0.1, "steps", (90, 135), 128, 182),
        *(None, None, "global", (33 * 391,)),
    )
    assert distilled["score_decay"] == 2e-4
    for row in recipes.KD.values():
        assert (row["temperature"], row["alpha"]) == (5, 0.9)
        assert row["kl_reduction"] == "mean"


@pytest.mark.parametrize(
    ("experiments", "rows"),
    [
        (published.SEARCHES, recipes.SMALL | recipes.IMAGENET),
        (published.WINNING_TICKETS, recipes.LOTTERY),
        (published.DISTILLED, recipes.KD),
    ],
    ids=["searches", "winning_tickets", "distilled"],
)
def test_published_rows_are_experiments(experiments, rows):
    assert experiments.keys() == rows.keys()
    for name, experiment in experiments.items():
        found = experiment.followed()
        assert (found.recipe, found.borrowed) == (name, "")
        assert found.differences == {}
        assert found.settings == in_force(type(experiment), recipe=name)
        assert found.settings.validation == 0.0


def test_every_row_makes_a_network(no_draws):
    from mpt_keras.experiments import searching
    from mpt_keras.experiments.devices import Devices
    from mpt_keras.experiments.place import Place
    from mpt_keras.experiments.preparation import Prepared

    images = types.SimpleNamespace(classes=10, image_shape=(32, 32, 3))
    for name in recipes.SMALL:
        settings = in_force(recipe=name, width=0.07)
        prepared = Prepared(settings, Place(), images, Devices())
        assert searching.build(prepared).output_shape == (None, 10)


@pytest.mark.parametrize(
    ("said", "shape", "expected"),
    [
        (None, (28, 28, 1), 500),
        (None, (32, 32, 3), 500),
        (None, (128, 64, 3), 500),
        (None, (128, 128, 3), 256),
        (None, (224, 224, 3), 83),
        (None, (4096, 4096, 3), 1),
        (500, (224, 224, 3), 500),
        (501, (32, 32, 3), 501),
        (3, (32, 32, 3), 3),
    ],
)
def test_the_evaluation_batch_is_said_or_fits_the_images(said, shape, expected):
    from mpt_keras.experiments.devices import Devices
    from mpt_keras.experiments.place import Place
    from mpt_keras.experiments.preparation import Prepared

    images = types.SimpleNamespace(classes=10, image_shape=shape)
    place = Place(evaluation_batch=said)
    prepared = Prepared(None, place, images, Devices())
    assert prepared.largest_evaluation_batch == expected
    assert prepared.evaluation_batch(10_000) == expected
    assert prepared.evaluation_batch(2) == min(expected, 2)


# --- Which recipe ---------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "recipe"),
    [
        ({}, "biprop_conv"),
        ({"binary_activations": True, "model": "conv8"}, "biprop_conv_binary"),
        ({"method": "dense", "model": "conv2"}, "dense_conv"),
        ({"method": "edge_popup", "model": "resnet34"}, "edge_popup_resnet18"),
        (
            {"model": "resnet110", "trained_batch_norm": True},
            "biprop_resnet20_bn",
        ),
        (
            {"model": "vgg_small", "binary_activations": True},
            "biprop_vgg_binary",
        ),
        ({"model": "lenet_300_100", "method": "edge_popup"}, "edge_popup_fc"),
        ({"model": "imagenet_resnet50"}, "biprop_resnet"),
        ({"recycling": "highest"}, "biprop_recycling_conv"),
        ({"recycling": "none"}, "biprop_conv"),
        (
            {"recycling": "random", "method": "edge_popup", "model": "conv2"},
            "edge_popup_iterand_conv",
        ),
    ],
    ids=str,
)
def test_the_recipe_for_what_is_asked(said, recipe):
    found = follow(**said)
    assert found.recipe == recipe
    for name, value in said.items():
        assert getattr(found.settings, name) == value
    if found.settings.dataset == "cifar10":
        assert found.borrowed == ""
    assert found.lines()[0] == f"Recipe: {recipe}"


@pytest.mark.parametrize(
    ("said", "recipe"),
    [
        ({"method": "edge_popup", "model": "vgg_small"}, "biprop_vgg"),
        ({"method": "dense", "model": "resnet20"}, "dense_resnet18"),
        ({"method": "dense", "model": "vgg_small"}, "dense_resnet18"),
        ({"model": "lenet_300_100"}, "edge_popup_fc"),
        ({"recycling": "highest", "model": "resnet20"}, "biprop_resnet20"),
        ({"recycling": "random"}, "biprop_conv"),
        ({"model": "my.module:network"}, "biprop_resnet18"),
    ],
    ids=str,
)
def test_where_none_is_published_the_nearest_is_borrowed(said, recipe):
    found = follow(**said)
    assert found.recipe == recipe
    assert "none is published for this on" in found.borrowed
    assert found.settings.model in found.borrowed
    assert found.lines()[0] == f"Recipe: {recipe}, borrowed: {found.borrowed}"


def test_other_images_than_the_recipe_s():
    borrowed = follow(dataset="digits").borrowed
    assert borrowed == "it is that of cifar10, not of digits"
    both = follow(dataset="digits", model="resnet20", recycling="random")
    assert both.borrowed.startswith("none is published for this on resnet20 ")
    assert both.borrowed.endswith(borrowed)
    # Whoever names a recipe knows that.
    assert follow(dataset="digits", recipe="biprop_conv").borrowed == ""


@pytest.mark.parametrize(
    ("cls", "model", "name", "is_own"),
    [
        (WinningTicket, "lenet_300_100", "lottery_fc", True),
        (WinningTicket, "conv2", "lottery_conv2", True),
        (WinningTicket, "conv8", "lottery_conv", True),
        (WinningTicket, "resnet20", "lottery_resnet20", True),
        (WinningTicket, "vgg_small", "lottery_resnet20", False),
        (Distilled, "resnet18", "kd_resnet18", True),
        (Distilled, "resnet34", "kd_resnet18", False),
        (Distilled, "conv6", "kd_conv", False),
        (Distilled, "resnet20", "kd_resnet18", False),
    ],
)
def test_the_recipe_for_ordinary_networks(cls, model, name, is_own):
    found = follow(cls, model=model)
    assert found.recipe == name
    assert (found.borrowed == "") == is_own


CHOICES = {
    "model": (
        *("conv4", "lenet_300_100", "vgg_small", "resnet18", "resnet20"),
        *("imagenet_resnet18", "imagenet_wide_resnet34_2", "my.module:network"),
    ),
    "method": ("biprop", "edge_popup", "dense"),
    "binary_activations": (False, True),
    "trained_batch_norm": (False, True),
    "recycling": ("none", *search.SOURCES),
}


def has_no_effect(said):
    """The setting that a search refuses, or None."""
    family = networks.family(said["model"])
    if said["method"] == "dense" and said["recycling"] != "none":
        return "recycling"
    real = not said["binary_activations"] and family in ("conv", "fc")
    return "trained_batch_norm" if said["trained_batch_norm"] and real else None


def test_every_search_has_a_recipe():
    for choice in itertools.product(*CHOICES.values()):
        said = dict(zip(CHOICES, choice, strict=True))
        refused = has_no_effect(said)
        if refused:
            with pytest.raises(NoEffectError, match=refused):
                follow(**said)
            continue
        found = follow(**said)
        large = said["model"].startswith("imagenet")
        assert found.recipe in (recipes.IMAGENET if large else recipes.SMALL)
        # Nothing is left open in a run, and nothing is said that is idle.
        again = found.settings.replace(recipe=None)
        assert again.followed().settings == found.settings


# --- What goes before what ------------------------------------------------


def test_what_is_said_goes_before_the_recipe():
    found = follow(recipe="biprop_resnet18", batch_size=32, model="resnet34")
    settings = found.settings
    assert settings.batch_size == 32
    assert settings.model == "resnet34"
    assert settings.score_decay == 5e-4
    assert settings.scale_fan == "authors"
    assert settings.epochs == 100
    assert found.differences == {
        "batch_size": (32, 256),
        "model": ("resnet34", "resnet18"),
    }
    line = "Differs from it: model=resnet34 (there resnet18), batch_size=32"
    assert found.lines()[1].startswith(line)


def test_differences_of_what_a_recipe_leaves_as_usual():
    said = {"width": 0.5, "mixed_precision": "bfloat16", "seed": 3}
    found = follow(recipe="biprop_conv", sparsity=0.9, **said)
    assert found.differences == {
        "width": (0.5, 1.0),
        "mixed_precision": ("bfloat16", "none"),
    }


def test_validation():
    assert in_force().validation == 0.1
    assert follow().differences["validation"] == (0.1, 0.0)
    assert in_force(recipe="biprop_conv").validation == 0.0
    assert in_force(recipe="biprop_conv", validation=0.2).validation == 0.2
    assert in_force(WinningTicket).validation == 0.1
    assert in_force(Distilled, recipe="kd_fc").validation == 0.0


def test_the_data_of_a_recipe():
    assert in_force(recipe="dense_fc").dataset == "mnist"
    assert in_force(model="lenet_300_100", method="dense").dataset == "mnist"
    assert in_force(model="conv2").dataset == "cifar10"


def test_crops():
    assert in_force().augment is True
    assert in_force(augment=False).augment is False
    assert in_force(dataset="digits").augment is False
    assert in_force(model="imagenet_resnet18", dataset="a").augment is True


@pytest.mark.parametrize("cls", [WinningTicket, Distilled])
def test_no_crops_where_the_recipe_has_none(cls):
    def augments(**said):
        return in_force(cls, dataset="cifar10", **said).augment

    assert augments(model="conv4") is False
    assert augments(model="conv4", augment=True) is True
    assert augments(model="resnet20") is True


def period(**said):
    found = in_force(**said)
    return (
        found.recycled_fraction,
        found.recycling_every,
        found.recycling_per,
    )


def test_draws_have_a_period_of_their_own():
    draws = {"recycling": "random"}
    assert period(**draws, method="edge_popup", model="conv6") == (
        *(0.1, 300, "step"),
    )
    # None is published for these; draws are still those of their authors.
    assert period(**draws) == (0.1, 300, "step")
    assert period(**draws, model="vgg_small") == (0.1, 300, "step")
    assert period(recipe="edge_popup_iterand_conv_rerun") == (0.1, 1, "epoch")
    assert period(**draws, recycling_every=7) == (0.1, 7, "step")
    assert period(recycling="highest") == (0.2, 10, "epoch")
    assert period() == (None, None, None)
    with pytest.raises(ValueError, match="needs recycling_every as well"):
        follow(**draws, recycling_per="epoch")


def test_a_dense_resnet_trains_its_batch_norms():
    dense = {"method": "dense", "model": "resnet18"}
    assert in_force(**dense).trained_batch_norm is True
    assert in_force(**dense, trained_batch_norm=False).trained_batch_norm is (
        False
    )
    assert in_force(model="resnet18").trained_batch_norm is False


def test_ways():
    ways = ("winning_ticket", "reinitialized", "random_masks")
    assert in_force(WinningTicket).ways == ways
    assert in_force(WinningTicket).rounds == 10
    assert in_force(WinningTicket, sparsities=(0.5,)).rounds is None
    assert in_force(Distilled).ways == ("one_shot", "kd_ticket")
    later = in_force(Distilled, rewind_steps=(0, 7))
    assert later.ways == (
        *("one_shot", "retraining", "kd_ticket", "kd_rewinding"),
    )
    assert later.sparsities == (0.9, 0.965)
    assert in_force(Distilled, rounds=3).sparsities is None


# --- Refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "said", "needed"),
    [
        (
            Search,
            {"method": "dense", "sparsity": 0.5},
            "it needs method=biprop or method=edge_popup",
        ),
        (Search, {"method": "dense", "global_sparsity": True}, "method=biprop"),
        (Search, {"method": "dense", "recycling": "highest"}, "method=biprop"),
        (Search, {"recycled_fraction": 0.1}, "recycling=highest"),
        (Search, {"optimizer": "adam", "momentum": 0.5}, "optimizer=sgd"),
        (
            Search,
            {"recipe": "biprop_vgg", "momentum": 0.5},
            "it needs optimizer=sgd",
        ),
        (Search, {"milestones": (3,)}, "it needs schedule=steps"),
        (
            Search,
            {"trained_batch_norm": True},
            "conv4 has batch norms only with binary_activations=True",
        ),
        (WinningTicket, {"temperature": 2.0}, "ways=kd_ticket"),
        (
            WinningTicket,
            {"ways": ("winning_ticket",), "draws": 3},
            "ways=reinitialized or ways=random_masks",
        ),
        (
            WinningTicket,
            {"sparsities": (0.5,), "rounds": 2},
            "sparsities say how far to prune",
        ),
    ],
)
def test_what_has_no_effect_is_refused_by_name(cls, said, needed):
    with pytest.raises(NoEffectError, match="no effect") as caught:
        follow(cls, **said)
    assert caught.value.setting in said
    assert str(caught.value).startswith(f"{caught.value.setting}=")
    assert needed in str(caught.value)
    assert str(caught.value).endswith("Leave it out.")


@pytest.mark.parametrize(
    "said",
    [
        {"method": "dense", "global_sparsity": False, "recycling": "none"},
        {"schedule": "cosine", "milestones": ()},
        {"trained_batch_norm": False},
    ],
    ids=str,
)
def test_what_asks_for_nothing_is_no_error(said):
    follow(**said)


def test_a_recipe_of_another_kind_of_run():
    with pytest.raises(ValueError, match=r"this kind of run\. Received"):
        follow(recipe="lottery_fc")
    with pytest.raises(ValueError, match="one of lottery_fc, lottery_conv2"):
        follow(WinningTicket, recipe="biprop_conv")


def test_later_states_need_a_step():
    with pytest.raises(ValueError, match="Expected a step above 0"):
        follow(Distilled, ways=("kd_rewinding",))
    with pytest.raises(ValueError, match="retraining in ways goes back"):
        follow(WinningTicket, ways=("retraining", "winning_ticket"))


SAID = {
    "method": strategies.sampled_from(CHOICES["method"]),
    "sparsity": strategies.sampled_from([0.0, 0.5, 0.9]),
    "model": strategies.sampled_from(CHOICES["model"]),
    "recipe": strategies.sampled_from(sorted(recipes.SMALL)),
    "recycling": strategies.sampled_from(CHOICES["recycling"]),
    "recycled_fraction": strategies.just(0.3),
    "recycling_every": strategies.just(4),
    "recycling_per": strategies.sampled_from(["epoch", "step"]),
    "global_sparsity": strategies.booleans(),
    "trained_batch_norm": strategies.booleans(),
    "binary_activations": strategies.booleans(),
    "optimizer": strategies.sampled_from(["sgd", "adam"]),
    "momentum": strategies.just(0.5),
    "schedule": strategies.sampled_from(["steps", "cosine"]),
    "milestones": strategies.just((3, 5)),
    "validation": strategies.sampled_from([0.0, 0.3, 7.0]),
    "epochs": strategies.integers(1, 9),
}


@given(strategies.fixed_dictionaries({}, optional=SAID))
@settings(deadline=None)
def test_all_that_is_said_holds_or_is_refused(said):
    refused = ""
    try:
        found = follow(**said).settings
    except NoEffectError as error:
        refused = error.setting
    except ValueError as error:
        refused = str(error).partition("=")[0]
    if refused:
        by_recipe = (
            refused == "recycling" and {"recipe", "epochs"} <= said.keys()
        )
        assert refused in said or by_recipe
        return
    for name, value in said.items():
        if value not in (False, "none"):
            assert getattr(found, name) == value, name
    usual = 0.0 if "recipe" in said else 0.1
    assert found.validation == said.get("validation", usual)
    assert found.followed().settings == found
