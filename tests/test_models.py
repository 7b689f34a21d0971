import inspect

import keras
import numpy as np
import pytest
from backend import as_numpy, value_and_gradients

import mpt_keras as mpt

CONV_NETS = ("conv2", "conv4", "conv6", "conv8")
# Scored weights of the papers' networks by width multiplier.
WEIGHTS = {
    ("conv2", 1): 4_300_992,
    ("conv4", 1): 2_425_024,
    ("conv6", 1): 2_261_184,
    ("conv8", 1): 5_275_840,
    ("conv2", 0.1): 39_761,
    ("conv2", 0.25): 269_616,
    ("conv2", 0.5): 1_076_320,
    ("conv4", 0.1): 22_505,
    ("conv4", 0.25): 152_368,
    ("conv4", 0.5): 607_328,
    ("conv6", 0.1): 21_630,
    ("conv6", 0.25): 142_128,
    ("conv6", 0.5): 566_368,
    ("conv8", 0.1): 51_614,
    ("conv8", 0.25): 330_544,
    ("conv8", 0.5): 1_320_032,
    ("lenet_300_100", 1): 266_200,
    ("vgg_small", 1): 4_656_512,
    ("vgg_small", 1.25): 7_249_120,
    ("resnet18", 1): 11_164_352,
    ("resnet34", 1): 21_265_088,
    ("resnet20", 1): 270_896,
    ("resnet32", 1): 464_432,
    ("resnet44", 1): 657_968,
    ("resnet56", 1): 851_504,
    ("resnet110", 1): 1_722_416,
    ("wide_resnet18_2", 1): 24_868_032,
    ("wide_resnet18_3", 1): 44_035_776,
    ("imagenet_resnet18", 1): 11_678_912,
    ("imagenet_resnet34", 1): 21_779_648,
    ("imagenet_resnet50", 1): 25_502_912,
    ("imagenet_resnet101", 1): 44_442_816,
    ("imagenet_wide_resnet50_2", 1): 68_814_016,
    ("imagenet_wide_resnet101_2", 1): 126_747_840,
    ("imagenet_wide_resnet18_2", 1): 25_636_032,
    ("imagenet_wide_resnet34_2", 1): 48_270_528,
    ("imagenet_wide_resnet34_3", 1): 85_238_976,
    # The papers do not give these; counted by hand from their tables.
    ("resnet50", 1): 23_467_712,
    ("resnet101", 1): 42_407_616,
    ("imagenet_wide_resnet18_3", 1): 34_663_616,
}


def weights_of(model):
    return sum(
        masked.size
        for layer in mpt.masked_layers(model)
        for masked in layer.masked_kernels
    )


def build(name, **options):
    return getattr(mpt.models, name)(**options)


# All networks with real activations, and one of each family with binary ones.
@pytest.mark.parametrize(
    ("name", "width", "binary_activations"),
    [
        *((name, width, False) for name, width in WEIGHTS),
        ("conv2", 0.1, True),
        ("lenet_300_100", 1, True),
        ("vgg_small", 1, True),
        ("resnet20", 1, True),
        ("imagenet_resnet50", 1, True),
    ],
)
def test_weight_counts_are_the_papers(
    name, width, binary_activations, no_draws
):
    model = build(name, width=width, binary_activations=binary_activations)
    assert weights_of(model) == WEIGHTS[name, width]
    classes = 1000 if name.startswith("imagenet") else 10
    assert model.output_shape == (None, classes)
    assert model.name == name


def test_every_published_network_says_how_many_weights_it_has():
    for name, width in WEIGHTS:
        if width == 1:
            text = getattr(mpt.models, name).__doc__
            assert f"{WEIGHTS[name, 1]:,} weights" in text


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_real_activations_come_without_batch_norm():
    conv, dense, relu, pool = "MPTConv2D", "MPTDense", "ReLU", "MaxPooling2D"
    assert kinds(mpt.models.conv4()) == [
        *(conv, relu, conv, relu, pool),
        *(conv, relu, conv, relu, pool),
        *("Flatten", dense, relu, dense, relu, dense),
    ]


def test_binary_activations_pool_before_the_batch_norm():
    conv, dense, pool = "MPTConv2D", "MPTDense", "MaxPooling2D"
    norm, sign = "BatchNormalization", "ApproxSign"
    model = mpt.models.conv4(binary_activations=True)
    assert kinds(model) == [
        *(conv, norm, sign, conv, pool, norm, sign),
        *(conv, norm, sign, conv, pool, norm, sign),
        *("Flatten", dense, norm, sign, dense, norm, sign, dense),
    ]
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.epsilon == 1e-5
            assert layer.momentum == 0.9
            assert not layer.trainable_variables


def test_trained_batch_norm_is_regularized_like_the_scores():
    regularizer = keras.regularizers.L2(0.1)
    model = mpt.models.conv2(
        binary_activations=True,
        trained_batch_norm=True,
        regularizer=regularizer,
        width=0.1,
    )
    assert len(model.trainable_variables) == 5 + 2 * 4
    assert all(v.regularizer is regularizer for v in model.trainable_variables)


@pytest.mark.parametrize(
    "quantizer",
    [mpt.quantizers.SteSign(1.2), keras.activations.tanh, "swish_sign"],
)
def test_any_quantizer_has_a_layer_in_every_place(quantizer, tmp_path, rng):
    model = mpt.models.conv2(width=0.1, binary_activations=quantizer)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert len({id(layer) for layer in model.layers}) == 15
    assert kinds(reloaded) == kinds(model)
    x = rng.standard_normal((2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(*map(as_numpy, (reloaded(x), model(x))))


def test_help_shows_the_options():
    options = inspect.signature(mpt.models.conv6).parameters
    assert list(options)[:3] == ["sparsity", "binarize", "binary_activations"]
    assert "stages" not in options
    assert "    sparsity: Number in" in inspect.getdoc(mpt.models.conv_net)
    imagenet = inspect.signature(mpt.models.imagenet_resnet50).parameters
    assert imagenet["classes"].default == 1000


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match=r"resnet18: .* argument 'depth'"):
        mpt.models.resnet18(depth=3)
    with pytest.raises(TypeError, match=r"conv_net: .* argument 'depth'"):
        mpt.models.conv_net(2, depth=3)


def test_options_reach_every_layer():
    model = mpt.models.conv4(
        sparsity=0.8,
        frozen_pruned=0.4,
        frozen_kept=0.1,
        binarize=False,
        kernel_initializer="signed_constant",
        scale_fan="authors",
        width=0.25,
        classes=7,
        input_shape=(28, 28, 1),
        seed=3,
        name="mine",
    )
    layers = mpt.masked_layers(model)
    assert model.name == "mine"
    assert model.output_shape == (None, 7)
    assert len({layer.seed for layer in layers}) == len(layers) == 7
    for layer in layers:
        assert (layer.frozen_pruned, layer.frozen_kept) == (0.4, 0.1)
        assert not layer.binarize
        assert layer.sparsity == 0.8
        fan_in = np.prod(layer.kernel.shape[:-1])
        np.testing.assert_allclose(
            np.abs(layer.kernel), np.sqrt(2 / (fan_in * 0.8)), rtol=1e-6
        )


def test_a_kernel_seed_is_that_of_the_weights_alone():
    first, second, same = (
        mpt.models.conv2(width=0.05, input_shape=(8, 8, 3), **seeds)
        for seeds in (
            {"seed": 1, "kernel_seed": 5},
            {"seed": 2, "kernel_seed": 5},
            {"seed": 1},
        )
    )
    layers = zip(*map(mpt.masked_layers, (first, second, same)), strict=True)
    for one, two, three in layers:
        np.testing.assert_array_equal(one.kernel, two.kernel)
        np.testing.assert_array_equal(one.scores, three.scores)
        assert (as_numpy(one.scores) != as_numpy(two.scores)).all()
        assert (as_numpy(one.kernel) != as_numpy(three.kernel)).any()
    dense = [
        mpt.models.lenet_300_100(masked=False, seed=seed, kernel_seed=3)
        for seed in (1, 2)
    ]
    for one, two in zip(*(model.get_weights() for model in dense), strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_ordinary_network_takes_other_initial_weights():
    def build(name, seed):
        model = mpt.models.dense_net(
            (30, 30),
            input_shape=(30,),
            masked=False,
            kernel_initializer=name,
            seed=seed,
        )
        return model.get_weights()

    first, second, last = build("glorot_normal", 1)
    assert first.std() == pytest.approx((2 / 60) ** 0.5, rel=0.1)
    assert (first != second).any()
    assert last.shape == (30, 10)
    np.testing.assert_array_equal(first, build("glorot_normal", 1)[0])
    assert (first != build("glorot_normal", 2)[0]).any()
    he = build("kaiming_normal", 1)[0]
    assert he.std() == pytest.approx((2 / 30) ** 0.5, rel=0.1)
    assert (build("ones", 1)[0] == 1).all()


def test_a_seed_gives_the_same_network():
    def first_kernel(**options):
        model = mpt.models.conv2(width=0.1, **options)
        return as_numpy(mpt.masked_layers(model)[0].kernel)

    np.testing.assert_array_equal(first_kernel(seed=1), first_kernel(seed=1))
    assert (first_kernel(seed=1) != first_kernel(seed=2)).any()
    assert (first_kernel() != first_kernel()).any()


def test_dense_twin_has_the_same_weights_trained():
    model = mpt.models.conv4(
        masked=False,
        binary_activations=True,
        regularizer=keras.regularizers.L2(0.1),
        width=0.25,
        seed=0,
    )
    assert not mpt.masked_layers(model)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    assert sum(np.prod(k.shape) for k in kernels) == WEIGHTS["conv4", 0.25]
    assert all(kernel.regularizer is not None for kernel in kernels)


def test_any_keras_initializer_will_do():
    model = mpt.models.conv2(width=0.1, kernel_initializer="glorot_uniform")
    kernel = mpt.masked_layers(model)[0].kernel
    assert np.abs(kernel).max() <= np.sqrt(6 / (27 + 54))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 5}, "Expected 1 to 4"),
        ({"stages": 2, "width": 0}, "width=0"),
        ({"stages": 2, "width": 0.01}, "at least one of 64"),
        ({"stages": 2, "sparsity": 1.0}, r"Expected a number in \[0, 1\)"),
        ({"stages": 2, "sparsity": "0.5"}, r"Expected a number in \[0, 1\)"),
        ({"stages": 2, "masked": False, "sparsity": 7}, "sparsity=7"),
        ({"stages": 2, "seed": -1}, "seed=-1"),
        ({"stages": 2, "width": "a"}, "width='a'"),
        ({"stages": 2, "binary_activations": "tanh"}, "approx_sign"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mpt.models.conv_net(**options)


# --- VGG-Small, LeNet, residual networks ------------------------------------


@pytest.mark.parametrize(
    ("options", "between"),
    [
        ({}, ["a", "pn", "", "pn", "", "pnr"]),
        ({"binary_activations": True}, ["na", "pna"] * 2 + ["na", "pnr"]),
        (
            {"binary_activations": True, "form": "norm_at_pools"},
            ["a", "pna"] * 2 + ["a", "pnr"],
        ),
        ({"form": "norm_everywhere"}, ["na", "pna"] * 2 + ["na", "pnr"]),
    ],
    ids=["real", "binary", "norm_at_pools", "norm_everywhere"],
)
def test_vgg_small_has_the_authors_layers(options, between):
    binary = options.get("binary_activations", False)
    names = {
        "p": "MaxPooling2D",
        "n": "BatchNormalization",
        "a": "ApproxSign" if binary else "ReLU",
        "r": "ReLU",
    }
    expected = []
    for letters in between:
        expected += ["MPTConv2D", *(names[letter] for letter in letters)]
    expected += ["Flatten", "MPTDense"]
    assert kinds(mpt.models.vgg_small(width=0.1, **options)) == expected


def test_lenet_with_binary_activations():
    model = mpt.models.lenet_300_100(width=0.1, binary_activations=True)
    assert kinds(model) == [
        *("Flatten", "MPTDense", "BatchNormalization", "ApproxSign"),
        *("MPTDense", "BatchNormalization", "ApproxSign", "MPTDense"),
    ]


def convolve(x, kernel, strides):
    """Zeros on both sides, then every `strides`-th window, in NumPy."""
    side = kernel.shape[0]
    pad = side // 2
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
    windows = windows[:, ::strides, ::strides]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel)


def max_pool(x):
    """3x3, stride 2, padded by one on both sides with nothing."""
    sides = [(0, 0), (1, 1), (1, 1), (0, 0)]
    x = np.pad(x, sides, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return windows[:, ::2, ::2].max((-1, -2))


class ByHand:
    """A residual network of He et al. in NumPy, with a model's weights."""

    def __init__(self, model, **form):
        self.layers = {layer.name: layer for layer in model.layers}
        self.form = {"imagenet_stem": False, "late_norm": False, **form}

    def conv(self, name, x, strides=1):
        kernel = as_numpy(self.layers[name].effective_kernel())
        return convolve(x, kernel, strides)

    def norm(self, name, x):
        layer = self.layers[name]
        mean = as_numpy(layer.moving_mean)
        scale = np.sqrt(as_numpy(layer.moving_variance) + 1e-5)
        return (x - mean) / scale

    def act(self, x):
        if self.form.get("binary"):
            return np.where(x >= 0, 1.0, -1.0)
        return np.maximum(x, 0)

    def __call__(self, x):
        imagenet = self.form["imagenet_stem"]
        late = self.form["late_norm"]
        x = self.conv("stem_conv", x, 2 if imagenet else 1)
        if imagenet and late:
            x = max_pool(x)
        x = self.norm("stem_norm", x)
        if imagenet and not late:
            x = max_pool(x)
        x = self.act(x)
        for stage in (1, 2):
            for block in (1, 2):
                at = f"stage{stage}_block{block}_"
                x = self.block(at, x, 2 if (stage, block) == (2, 1) else 1)
        x = x.mean((1, 2))
        return x @ as_numpy(self.layers["logits"].effective_kernel())

    def block(self, at, x, strides):
        bottleneck = f"{at}conv3" in self.layers
        y = x
        last = 3 if bottleneck else 2
        for i in range(1, last + 1):
            strided = i == (2 if bottleneck else 1)
            y = self.conv(f"{at}conv{i}", y, strides if strided else 1)
            if i < last:
                y = self.act(self.norm(f"{at}norm{i}", y))
        late = self.form["late_norm"]
        if late is not True:
            y = self.norm(f"{at}norm{last}", y)
        if f"{at}shortcut_conv" in self.layers:
            x = self.conv(f"{at}shortcut_conv", x, strides)
            x = self.norm(f"{at}shortcut_norm", x)
        y = y + x
        if late:
            y = self.norm(f"{at}norm{last}", y)
        return self.act(y)


def give_statistics(model, rng):
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"bottleneck": True, "inner_width": 2},
        {"imagenet_stem": True},
        {"late_norm": True, "imagenet_stem": True},
        {"late_norm": "both"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("binary", "side"), [(False, 15), (True, 16)])
def test_residual_networks_by_hand(shape, binary, side, rng):
    model = mpt.models.residual_net(
        (2, 2),
        widths=(4, 6),
        binary_activations=binary,
        input_shape=(side, side, 3),
        **shape,
    )
    give_statistics(model, rng)
    x = rng.standard_normal((2, side, side, 3)).astype("float32")
    by_hand = ByHand(
        model,
        imagenet_stem=shape.get("imagenet_stem", False),
        late_norm=shape.get("late_norm", False),
        binary=binary,
    )
    np.testing.assert_allclose(
        as_numpy(model(x, training=False)), by_hand(x), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("side", [2, 31, 32])
def test_the_imagenet_stem_pools_as_at_stride_1(side, policy, tmp_path, rng):
    """To the bit, gradients too, as if three of four windows were dropped."""
    keras.config.set_dtype_policy(policy)
    model = mpt.models.residual_net(
        (1,), widths=(4,), imagenet_stem=True, input_shape=(side, side, 3)
    )
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    (pool,) = (
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.MaxPooling2D)
    )
    (pad,) = (op for op in model.operations if type(op).__name__ == "Pad")
    pooled = keras.Model(pad.input, pool.output)
    in_two_steps = keras.Sequential(
        [
            keras.layers.MaxPooling2D(3, strides=1, padding="same"),
            keras.layers.MaxPooling2D(1, strides=2),
        ]
    )
    # All below 0, with ties.
    shape = (2, *pad.input.shape[1:])
    x = keras.Variable(rng.integers(-9, 0, shape).astype("float32"))
    upstream = rng.standard_normal((2, *pool.output.shape[1:]))
    found, expected = (
        value_and_gradients(
            lambda pools=pools: keras.ops.cast(pools(x), "float32"),
            [x],
            upstream,
        )
        for pools in (pooled, in_two_steps)
    )
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[0], max_pool(as_numpy(x)))
    np.testing.assert_array_equal(found[1][0], expected[1][0])


def test_the_head_of_squares_is_the_authors(rng):
    """40 outputs where a 4x4 pool leaves 2x2: class by class, row by row."""
    shape = {"widths": (4, 6, 8), "seed": 0}
    broken = mpt.models.residual_net((1, 1, 1), head_pool=4, **shape)
    right = mpt.models.residual_net((1, 1, 1), **shape)
    assert broken.output_shape == (None, 40)
    assert right.output_shape == (None, 10)
    x = rng.standard_normal((2, 32, 32, 3)).astype("float32")
    outputs = as_numpy(broken(x, training=False)).reshape(2, 10, 4)
    np.testing.assert_allclose(
        outputs.mean(-1), right(x, training=False), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "name", ["conv2", "lenet_300_100", "vgg_small", "resnet20"]
)
def test_first_and_last_layer_dense(name):
    model = build(
        name, width=0.1, first_layer_masked=False, last_layer_masked=False
    )
    ordinary = [
        layer
        for layer in model.layers
        if type(layer) in (keras.layers.Conv2D, keras.layers.Dense)
    ]
    weighted = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert ordinary == [weighted[0], weighted[-1]]
    assert all(layer.kernel.trainable for layer in ordinary)
    assert [layer.use_bias for layer in ordinary] == [False, True]
    assert len(mpt.masked_layers(model)) == len(weighted) - 2


@pytest.mark.parametrize(
    ("function", "binary", "shape"),
    [
        ("vgg_small", False, {}),
        ("lenet_300_100", True, {}),
        ("residual_net", False, {"blocks": (1, 1), "widths": (60, 90)}),
        (
            "residual_net",
            True,
            {
                "blocks": (1, 1),
                "widths": (60, 90),
                "bottleneck": True,
                "imagenet_stem": True,
            },
        ),
    ],
    ids=["vgg_small", "lenet_300_100", "basic", "bottleneck"],
)
def test_a_ticket_of_each_family_freezes_and_reloads(
    function, binary, shape, tmp_path, rng
):
    model = build(
        function,
        width=0.07,
        classes=3,
        binary_activations=binary,
        trained_batch_norm=True,
        **shape,
    )
    give_statistics(model, rng)
    x = rng.standard_normal((2, *model.input_shape[1:])).astype("float32")
    expected = as_numpy(model(x))
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(as_numpy(reloaded(x)), expected)
    np.testing.assert_array_equal(as_numpy(mpt.freeze(model)(x)), expected)


def test_dense_twin_of_a_residual_network():
    model = mpt.models.resnet20(masked=False, trained_batch_norm=True)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    assert sum(np.prod(k.shape) for k in kernels) == WEIGHTS["resnet20", 1]
    assert any(v.name == "gamma" for v in model.trainable_variables)
    assert not mpt.masked_layers(model)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("vgg_small", {"form": "norms"}, "Expected one of .*two_activations"),
        ("residual_net", {"blocks": (1, 2)}, "one number per stage"),
        (
            "residual_net",
            {"blocks": (1,) * 4, "late_norm": True, "bottleneck": True},
            "basic blocks only",
        ),
        ("resnet20", {"width": 0.01}, "at least one of 16"),
        ("resnet20", {"width": float("nan")}, "width=nan"),
        ("resnet20", {"width": float("inf")}, "width=inf"),
    ],
)
def test_impossible_networks_of_other_families(function, options, message):
    with pytest.raises(ValueError, match=message):
        build(function, **options)


def test_networks_have_their_channels_last():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels last"):
            mpt.models.resnet20(masked=False)
    finally:
        keras.config.set_image_data_format("channels_last")
