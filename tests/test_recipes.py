"""The recipes against the published table, and the flags that they set."""

import importlib
import itertools

import pytest
from conftest import ROOT

flags = pytest.importorskip("absl.flags")
import programs  # noqa: E402
from absl.testing import flagsaver  # noqa: E402

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
        *("sgd", 0.1, "steps", ["80", "120"], 128, 160),
        *(0.2, None, "global", 500),
    ),
}
COLUMNS = (
    *("optimizer", "learning_rate", "schedule", "score_decay", "batch_size"),
    *("epochs", "trained_batch_norm", "binary_activations", "model"),
)


@pytest.fixture
def cifar10(example):
    """The example; called with words, it reads its flags from them."""
    module = example("cifar10_biprop")
    fresh = flagsaver.save_flag_values()

    def parse(*words):
        flagsaver.restore_flag_values(fresh)
        fresh.update(flagsaver.save_flag_values())  # restoring gives it away
        flags.FLAGS(["cifar10_biprop.py", *words])
        families = module.small_images.FAMILIES
        module.search.follow_recipe(module.recipes.CIFAR10, families)
        return flags.FLAGS

    return parse


@pytest.mark.parametrize("published", [TABLE, IMAGENET_TABLE], ids=len)
def test_rows_are_the_published_ones(published, example):
    recipes = example("recipes")
    rows = recipes.CIFAR10 if published is TABLE else recipes.IMAGENET
    assert rows.keys() == published.keys()
    for name, values in published.items():
        row = {"trained_batch_norm": 0, "binary_activations": 0, **rows[name]}
        assert tuple(row[column] for column in COLUMNS) == values, name
        assert row["method"] == name.split("_")[0].replace("edge", "edge_popup")
        momentum = 0.9 if published is TABLE else 0.875
        if row["optimizer"] == "sgd":
            assert row["momentum"] == momentum
        if published is IMAGENET_TABLE:
            assert row["label_smoothing"] == 0.1
            assert row["warmup_epochs"] == (0 if row["epochs"] == 120 else 5)


def test_rows_of_recycling_are_the_published_ones(example):
    rows = example("recipes").CIFAR10
    columns = ("recycled_fraction", "recycling_every")
    columns += ("kernel_initializer", "scale_fan")
    found = {
        name: tuple(row[column] for column in columns)
        for name, row in rows.items()
        if row.get("recycling", "none") != "none"
    }
    assert found == RECYCLING


def test_rows_of_ordinary_networks_are_the_published_ones(example):
    recipes = example("recipes")
    columns = ("optimizer", "learning_rate", "schedule", "milestones")
    columns += ("batch_size", "epochs", "pruning_rate", "convolution_rate")
    columns += ("scope", "rewind_step")

    def values(row):
        return tuple(row.get(column) for column in columns)

    found = {name: values(row) for name, row in recipes.LOTTERY.items()}
    assert found == LOTTERY
    distilled = recipes.KD["kd_resnet18"]
    assert values(distilled) == (
        *("sgd", 0.1, "steps", ["90", "135"], 128, 182),
        *(None, None, "global", 33 * 391),
    )
    assert distilled["score_decay"] == 2e-4
    for row in recipes.KD.values():
        assert (row["temperature"], row["alpha"]) == (5, 0.9)
        assert row["kl_reduction"] == "mean"


@pytest.mark.parametrize(
    ("method", "family", "model", "name"),
    [
        ("lottery", "fc", "lenet_300_100", "lottery_fc"),
        ("lottery", "conv", "conv2", "lottery_conv2"),
        ("lottery", "conv", "conv8", "lottery_conv"),
        ("lottery", "vgg", "vgg_small", "lottery_resnet20"),
        ("kd", "resnet18", "resnet34", "kd_resnet18"),
        ("kd", "conv", "conv6", "kd_conv"),
        ("kd", "resnet20", "resnet20", "kd_resnet18"),
    ],
)
def test_the_recipe_for_ordinary_networks(method, family, model, name, example):
    recipes = example("recipes")
    rows = {"lottery": recipes.LOTTERY, "kd": recipes.KD}[method]
    names = recipes.names_for_tickets(method, family, model)
    assert next(found for found in names if found in rows) == name


def test_every_row_makes_a_network(cifar10, example, no_draws):
    module = example("cifar10_biprop")
    for name in module.recipes.CIFAR10:
        FLAGS = cifar10(f"--recipe={name}", "--width=0.07")
        devices = example("distribution").Devices()
        network = module.search.build(
            module.small_images.MODELS,
            devices,
            **module.small_images.shape_of_data(),
        )
        assert network.output_shape == (None, 10)
        assert FLAGS.recipe == name


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ([], "biprop_conv"),
        (["--binary_activations", "--model=conv8"], "biprop_conv_binary"),
        (["--method=dense", "--model=conv2"], "dense_conv"),
        (["--method=edge_popup", "--model=resnet34"], "edge_popup_resnet18"),
        (["--model=resnet110", "--trained_batch_norm"], "biprop_resnet20_bn"),
        (["--model=vgg_small", "--binary_activations"], "biprop_vgg_binary"),
        (["--model=lenet_300_100", "--method=edge_popup"], "edge_popup_fc"),
        # None is published for these; the nearest is taken.
        (["--method=edge_popup", "--model=vgg_small"], "biprop_vgg"),
        (["--method=dense", "--model=resnet20"], "dense_resnet18"),
        (["--method=dense", "--model=vgg_small"], "dense_resnet18"),
        (["--method=dense", "--binary_activations"], "dense_conv"),
        (["--model=lenet_300_100"], "edge_popup_fc"),
        (["--recycling=highest"], "biprop_recycling_conv"),
        (
            ["--recycling=random", "--method=edge_popup", "--model=conv2"],
            "edge_popup_iterand_conv",
        ),
        (["--recycling=highest", "--model=resnet20"], "biprop_resnet20"),
    ],
    ids=str,
)
def test_the_recipe_for_what_is_asked(words, recipe, cifar10):
    FLAGS = cifar10(*words)
    assert FLAGS.recipe == recipe
    for word in words:
        name, _, value = word[2:].partition("=")
        assert FLAGS[name].value == (value or True)


@pytest.mark.parametrize(
    ("table", "families"),
    [
        ("CIFAR10", ("conv", "fc", "vgg", "resnet18", "resnet20")),
        ("IMAGENET", ("resnet", "wide_resnet", "wide_resnet34")),
    ],
)
def test_every_search_has_a_recipe(table, families, example):
    recipes = example("recipes")
    choices = itertools.product(
        families,
        ("biprop", "edge_popup", "dense"),
        (False, True),
        (False, True),
    )
    for choice in choices:
        names = recipes.names_for(*choice)
        assert set(names) & getattr(recipes, table).keys(), choice


def period(FLAGS):
    return (
        FLAGS.recycled_fraction,
        FLAGS.recycling_every,
        FLAGS.recycling_per,
    )


def test_draws_have_a_period_of_their_own(cifar10, run_error):
    random = "--recycling=random"
    edge_popup = cifar10(random, "--method=edge_popup", "--model=conv6")
    assert period(edge_popup) == (0.1, 300, "step")
    # None is published for these; draws are still those of their authors.
    assert period(cifar10(random)) == (0.1, 300, "step")
    assert period(cifar10(random, "--model=vgg_small")) == (0.1, 300, "step")
    rerun = cifar10("--recipe=edge_popup_iterand_conv_rerun")
    assert period(rerun) == (0.1, 1, "epoch")
    assert period(cifar10(random, "--recycling_every=7"))[:2] == (0.1, 7)
    assert period(cifar10("--recycling=highest")) == (0.2, 10, "epoch")
    with pytest.raises(run_error, match="needs --recycling_every as well"):
        cifar10(random, "--recycling_per=epoch")


def test_a_dense_resnet_trains_its_batch_norms(cifar10):
    words = ("--method=dense", "--model=resnet18")
    assert cifar10(*words).trained_batch_norm
    assert not cifar10(*words, "--notrained_batch_norm").trained_batch_norm
    assert not cifar10("--model=resnet18").trained_batch_norm


@pytest.mark.parametrize("method", ["lottery", "kd"])
def test_no_crops_where_the_recipe_has_none(method):
    def augments(*words):
        with programs.modules_of(ROOT / "examples"):
            module = importlib.import_module(f"{method}_ticket")
            flags.FLAGS([f"{method}_ticket.py", "--dataset=cifar10", *words])
            rows = getattr(module.recipes, method.upper())
            return module.tickets.how_to_train(rows, method).augment

    assert augments("--model=conv4") is False
    assert augments("--model=conv4", "--augment") is True
    assert augments("--model=resnet20") is True


def test_flags_go_before_the_recipe(cifar10):
    FLAGS = cifar10(
        "--recipe=biprop_resnet18", "--batch_size=32", "--model=resnet34"
    )
    assert FLAGS.batch_size == 32
    assert FLAGS.model == "resnet34"
    assert FLAGS.score_decay == 5e-4
    assert FLAGS.scale_fan == "authors"
    assert FLAGS.epochs == 100


def test_the_data_of_a_recipe(cifar10):
    assert cifar10("--recipe=dense_fc").dataset == "mnist"
    assert cifar10("--model=lenet_300_100", "--method=dense").dataset == "mnist"
    assert cifar10("--model=conv2").dataset == "cifar10"
