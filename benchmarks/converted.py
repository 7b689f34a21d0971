"""Which ordinary models become masked networks, and what of them is exact?

    python benchmarks/converted.py
    python benchmarks/converted.py --models=MobileNet,BertBackbone

Every family of `keras.applications`, its smallest network on small images, and
backbones of KerasHub out of configurations, if it is installed; nothing is
downloaded. Prints the table of `docs/converted.md`, a row as soon as it is
known, and with `--lines` adds each to a file, as a line of JSON.

Each model gets batch norms of statistics that fit the input, and other vectors
(biases, scales) drawn around theirs, so that no operation is idle. Then

- `unpruned`: `convert(model, kernel="keep")` predicts the same bits;
- `step`: `convert(model)` trains a step of Adam, its loss is finite and the
  scores of so many kernels have moved; what it then predicts is finite and
  differs from one example to another;
- `frozen`: `freeze` of it predicts the same bits;
- `ticket`: so does `load_ticket` of its file, which has so many bytes.

The same bits means equal as `predict` computes them. In a row that failed, the
last column says why.
"""

import collections
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_kernels

_BATCH = 8
_CLASSES = 10


def _application(name, size=32, pixels=False, **options):
    """A network of `keras.applications`, and the inputs that it expects.

    Args:
        name: Of its function.
        size: Rows and columns, the fewest that it takes, or 32.
        pixels: Whether it scales bytes by itself.
        **options: Of the function, so that it is small.
    """

    def make(rng):
        model = getattr(keras.applications, name)(
            input_shape=(size, size, 3),
            weights=None,
            classes=_CLASSES,
            classifier_activation=None,
            **options,
        )
        shape = (_BATCH, size, size, 3)
        images = (
            rng.uniform(0, 255, shape) if pixels else rng.standard_normal(shape)
        )
        return model, images.astype("float32"), {}

    return make


_SMALL = {"num_layers": 2, "hidden_dim": 16}
_TEXT = {**_SMALL, "vocabulary_size": 100, "intermediate_dim": 32}
_POSITIONS = {**_TEXT, "num_heads": 2, "max_sequence_length": 12}
_GROUPED = {**_TEXT, "num_query_heads": 4, "num_key_value_heads": 2}


def _backbone(name, **options):
    """A backbone of KerasHub out of a configuration, and inputs."""

    def make(rng):
        import keras_hub

        model = getattr(keras_hub.models, name)(**options)
        inputs = keras.tree.map_structure(
            functools.partial(_input, rng), model.input
        )
        return model, inputs, _registered_classes(model)

    return make


def _registered_classes(model):
    """Name -> class, of all that KerasHub registers, and of the model's layers.

    Some of these it does not register, and a ticket names no others.
    """
    for layer in model._flatten_layers():
        cls = type(layer)
        of_hub = cls.__module__.startswith("keras_hub.")
        if of_hub and ">" not in keras.saving.get_registered_name(cls):
            register = keras.saving.register_keras_serializable
            register(package="keras_hub")(cls)
    return {
        name: value
        for name, value in keras.saving.get_custom_objects().items()
        if name.startswith("keras_hub>")
    }


def _input(rng, tensor):
    shape = (_BATCH, *(given or 8 for given in tensor.shape[1:]))
    if "float" in tensor.dtype:
        return rng.standard_normal(shape).astype(tensor.dtype)
    if "padding_mask" in tensor.name:
        lengths = rng.integers(4, shape[1], _BATCH)
        return (np.arange(shape[1]) < lengths[:, None]).astype(tensor.dtype)
    most = 2 if "segment_ids" in tensor.name else 100
    return rng.integers(0, most, shape).astype(tensor.dtype)


MODELS = {
    "MobileNet": _application("MobileNet", alpha=0.25),
    "MobileNetV2": _application("MobileNetV2", alpha=0.35),
    "MobileNetV3Small": _application(
        "MobileNetV3Small", pixels=True, alpha=0.75, minimalistic=True
    ),
    "MobileNetV3Large": _application(
        "MobileNetV3Large", pixels=True, alpha=0.75
    ),
    "VGG16": _application("VGG16"),
    "VGG19": _application("VGG19"),
    "ResNet50": _application("ResNet50"),
    "ResNet50V2": _application("ResNet50V2"),
    "Xception": _application("Xception", size=71),
    "InceptionV3": _application("InceptionV3", size=75),
    "DenseNet121": _application("DenseNet121"),
    "EfficientNetB0": _application("EfficientNetB0", pixels=True),
    "EfficientNetV2B0": _application("EfficientNetV2B0", pixels=True),
    "ConvNeXtTiny": _application("ConvNeXtTiny", pixels=True),
    "NASNetMobile": _application("NASNetMobile"),
    "InceptionResNetV2": _application("InceptionResNetV2", size=75),
}
BACKBONES = {
    "BertBackbone": _backbone("BertBackbone", **_POSITIONS),
    "DistilBertBackbone": _backbone("DistilBertBackbone", **_POSITIONS),
    "RobertaBackbone": _backbone("RobertaBackbone", **_POSITIONS),
    "GPT2Backbone": _backbone("GPT2Backbone", **_POSITIONS),
    "OPTBackbone": _backbone("OPTBackbone", **_POSITIONS),
    "AlbertBackbone": _backbone(
        "AlbertBackbone", embedding_dim=8, **_POSITIONS
    ),
    "BloomBackbone": _backbone("BloomBackbone", num_heads=2, **_TEXT),
    "GPTNeoXBackbone": _backbone("GPTNeoXBackbone", **_POSITIONS),
    "FNetBackbone": _backbone("FNetBackbone", max_sequence_length=8, **_TEXT),
    "MistralBackbone": _backbone("MistralBackbone", **_GROUPED),
    "GemmaBackbone": _backbone("GemmaBackbone", head_dim=4, **_GROUPED),
    "T5Backbone": _backbone("T5Backbone", num_heads=2, **_TEXT),
    "LlamaBackbone": _backbone("LlamaBackbone", **_GROUPED),
    "ResNetBackbone": _backbone(
        "ResNetBackbone",
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    ),
    "ViTBackbone": _backbone(
        "ViTBackbone",
        image_shape=(16, 16, 3),
        patch_size=4,
        num_heads=2,
        mlp_dim=32,
        **_SMALL,
    ),
}

FLAGS = flags.FLAGS
flags.DEFINE_list("models", None, "Names of models; all by default.")
flags.DEFINE_string("lines", None, "File to which each row is added as JSON.")


@dataclasses.dataclass
class Row:
    """What is known of one model; None is not known."""

    model: str
    masked_kernels: int | None = None
    masked_weights: int | None = None
    left_alone: str = ""
    unpruned: bool | None = None
    step: str | None = None
    frozen: bool | None = None
    ticket: bool | None = None
    ticket_bytes: int | None = None
    seconds: float | None = None
    failed: str = ""

    def line(self):
        return f"| {' | '.join(map(_cell, dataclasses.astuple(self)))} |"


def _cell(value):
    if isinstance(value, bool):
        return "same bits" if value else "**differs**"
    if isinstance(value, float):
        return f"{value:.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return value or ""


def examine(name, make):
    """Returns the `Row` of a model."""
    row, start = Row(name), time.perf_counter()
    try:
        _fill(row, *make(np.random.default_rng(0)))
    except Exception as error:
        (first, *_) = str(error).splitlines() or [""]
        sentence, *_ = first.split(". ")
        row.failed = f"{type(error).__name__}: {sentence}"
    row.seconds = time.perf_counter() - start
    return row


def _fill(row, model, inputs, custom_objects):
    rng = np.random.default_rng(1)
    _move_off_the_start(model, inputs, rng)
    before = [weight.tobytes() for weight in model.get_weights()]
    expected = _predictions(model, inputs)

    kept = mpt.convert(model, kernel="keep", seed=0)
    row.unpruned = _are_same(_predictions(kept, inputs), expected)
    del kept

    masked = mpt.convert(model, seed=0)
    if before != [weight.tobytes() for weight in model.get_weights()]:
        raise AssertionError("The given model was changed.")
    report = mpt.conversion_report(masked)
    kernels = list(masked_kernels(masked).values())
    row.masked_kernels = len(kernels)
    row.masked_weights = sum(kernel.size for kernel in kernels)
    row.left_alone = _left_alone(report)

    scores = [np.array(kernel.scores) for kernel in kernels]
    shapes = iter([answer.shape for answer in expected])
    targets = keras.tree.map_structure(
        lambda _: rng.standard_normal(next(shapes)).astype("float32"),
        model.output,
    )
    losses = keras.tree.map_structure(lambda _: "mse", targets)
    masked.compile(keras.optimizers.Adam(1e-3), losses)
    loss = masked.train_on_batch(inputs, targets)
    moved = sum(
        bool((np.asarray(kernel.scores) != old).any())
        for kernel, old in zip(kernels, scores, strict=True)
    )
    if not np.isfinite(loss).all():
        raise AssertionError(f"The loss is {loss}.")
    row.step = f"{moved} of {len(kernels)} moved"

    predicted = _predictions(masked, inputs)
    _check_they_tell_examples_apart(predicted)
    frozen = mpt.freeze(masked)
    row.frozen = _are_same(_predictions(frozen, inputs), predicted)
    del frozen
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "network.ticket"
        mpt.save_ticket(masked, path)
        row.ticket_bytes = path.stat().st_size
        loaded = mpt.load_ticket(path, custom_objects=custom_objects)
    row.ticket = _are_same(_predictions(loaded, inputs), predicted)


def _move_off_the_start(model, inputs, rng):
    """Gives every vector values at which it matters.

    Batch norms normalize these inputs, here and, after a step of training,
    with other kernels. Otherwise a deep network's predictions would be
    infinite or all the same.
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        layer.momentum = 0.0  # the statistics of the last batch
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            is_scale = weight.path.endswith(("gamma", "scale"))
            low, high = (0.5, 1.5) if is_scale else (-0.1, 0.1)
            weight.assign(rng.uniform(low, high, weight.shape))
    if norms:
        model(inputs, training=True)


def _left_alone(report):
    counts = collections.Counter(
        (row.reason, row.kind) for row in report.left_alone if row.weights
    )
    kinds = collections.defaultdict(list)
    for (reason, kind), count in counts.items():
        kinds[reason].append(f"{count} {kind}")
    return "; ".join(
        f"{', '.join(names)}: {reason}" for reason, names in kinds.items()
    )


def _predictions(model, inputs):
    answer = model.predict(inputs, batch_size=_BATCH, verbose=0)
    return [np.asarray(part) for part in keras.tree.flatten(answer)]


def _are_same(received, expected):
    return all(map(np.array_equal, received, expected))  # no NaN is equal


def _check_they_tell_examples_apart(predicted):
    for answer in predicted:
        if not np.isfinite(answer).all():
            raise AssertionError("What it predicts is not finite.")
        range_of_each = np.ptp(answer, axis=0)
        if (range_of_each > 1e-3 * np.abs(answer).max()).mean() < 0.5:
            raise AssertionError("It predicts the same for all examples.")


def main(_):
    known = MODELS | BACKBONES
    names = FLAGS.models
    if names is None:
        has_hub = importlib.util.find_spec("keras_hub")
        names = [*MODELS, *(BACKBONES if has_hub else [])]
    unknown = set(names) - set(known)
    if unknown:
        raise app.UsageError(f"Expected some of {list(known)}: {unknown}")
    titles = [field.name.replace("_", " ") for field in dataclasses.fields(Row)]
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}", flush=True)
    for name in names:
        keras.utils.set_random_seed(0)
        row = examine(name, known[name])
        print(row.line(), flush=True)
        if FLAGS.lines:
            with pathlib.Path(FLAGS.lines).open("a") as file:
                file.write(json.dumps(dataclasses.asdict(row)) + "\n")
        keras.utils.clear_session()


if __name__ == "__main__":
    app.run(main)
