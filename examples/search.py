"""What the searches share: the flags of method and recipe, and their use."""

import experiment
import keras
import run_folder
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

flags.DEFINE_float("width", 1.0, "Multiplier of every layer's width.")
flags.DEFINE_enum(
    "method",
    "biprop",
    ["biprop", "edge_popup", "dense"],
    "Binary weights, masked real weights, or ordinary training.",
)
flags.DEFINE_bool("binary_activations", False, "Binary activations as well.")
flags.DEFINE_bool(
    "trained_batch_norm",
    False,
    "Train scale and offset of the batch norms (+BN in the papers' tables); "
    "only networks with binary activations have them.",
)
flags.DEFINE_bool(
    "global_sparsity",
    False,
    "One threshold for all layers, with the authors' ramp over ten epochs.",
)
flags.DEFINE_enum(
    "kernel_initializer",
    "kaiming_normal",
    ["kaiming_normal", "signed_constant"],
    "The random weights.",
)
flags.DEFINE_enum(
    "scale_fan",
    "paper",
    ["paper", "authors", "none"],
    "How the weights' scale accounts for the sparsity: fan-in times the "
    "fraction kept, times the fraction pruned (the authors' code), or not.",
)
flags.DEFINE_enum(
    "optimizer",
    None,
    ["sgd", "adam"],
    "By default as the authors: SGD, and Adam with binary activations.",
)
flags.DEFINE_float("momentum", 0.9, "Momentum of SGD.")
flags.DEFINE_float("learning_rate", 0.1, "Highest learning rate.")
flags.DEFINE_enum(
    "schedule", "cosine", ["cosine", "constant"], "Learning rate per epoch."
)
flags.DEFINE_integer(
    "warmup_epochs", 0, "Epochs in which the learning rate rises to its height."
)
flags.DEFINE_float(
    "label_smoothing",
    0.0,
    "Probability that is spread evenly over all classes, in the evaluation's "
    "loss as well.",
)
flags.DEFINE_float(
    "score_decay",
    None,
    "Weight decay of the scores, added to their gradient. By default as the "
    "authors: with SGD only.",
)
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_enum(
    "mixed_precision",
    "none",
    ["none", "bfloat16", "float16"],
    "Type of the activations; scores stay in float32.",
)
flags.register_validator(
    "batch_size", lambda value: value > 0, "Expected a positive number."
)
flags.register_validator(
    "warmup_epochs", lambda value: value >= 0, "Expected 0 or more."
)
for _name in ("momentum", "label_smoothing"):
    flags.register_validator(
        _name, lambda value: 0.0 <= value < 1.0, "Expected a number in [0, 1)."
    )


def recipe():
    """What the flags say, as a `Recipe`."""
    adam_by_default = FLAGS.binary_activations
    return experiment.Recipe(
        epochs=FLAGS.epochs or 100,
        batch_size=FLAGS.batch_size,
        optimizer=FLAGS.optimizer or ("adam" if adam_by_default else "sgd"),
        learning_rate=FLAGS.learning_rate,
        schedule=FLAGS.schedule,
        momentum=FLAGS.momentum,
        augment=True,
        warmup_epochs=FLAGS.warmup_epochs,
        label_smoothing=FLAGS.label_smoothing,
    )


def start(how):
    """Like `experiment.start`, in the precision asked for."""
    if FLAGS.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{FLAGS.mixed_precision}")
    return experiment.start(how)


def build(models, how, devices, decay_with_sgd, **shape):
    """Builds the network that the flags name.

    Args:
        models: Name -> function that builds it.
        how: `Recipe`.
        devices: `Devices`.
        decay_with_sgd: Weight decay of the scores unless the flags say it.
        **shape: `classes` and `input_shape` where the functions' own defaults
            are not those of the data.

    Raises:
        RunError: If the flags make no network.
    """
    decay = FLAGS.score_decay
    if decay is None:
        decay = decay_with_sgd if how.optimizer == "sgd" else 0.0
    options = {
        "width": FLAGS.width,
        "binary_activations": FLAGS.binary_activations,
        "trained_batch_norm": FLAGS.trained_batch_norm,
        # The authors add decay * score to the gradient.
        "regularizer": keras.regularizers.L2(decay / 2) if decay else None,
        "seed": FLAGS.seed,
        **shape,
        **_of_the_method(),
    }
    try:
        with devices.scope():
            return models[FLAGS.model](**options)
    except ValueError as error:
        raise RunError(error) from error


def _of_the_method():
    if FLAGS.method == "dense":
        return {"masked": False}
    return {
        "sparsity": FLAGS.sparsity,
        "binarize": FLAGS.method == "biprop",
        "kernel_initializer": FLAGS.kernel_initializer,
        "scale_fan": None if FLAGS.scale_fan == "none" else FLAGS.scale_fan,
    }


def train(network, data, how, devices):
    """Opens the run's folder, trains, and reports."""
    folder = run_folder.open_run_folder(
        f"{data.name}-{FLAGS.model}-{FLAGS.method}-{FLAGS.sparsity}", devices
    )
    callbacks = []
    if FLAGS.global_sparsity:
        ramp = mpt.schedules.CubicRamp(FLAGS.sparsity)
        callbacks.append(mpt.callbacks.GlobalSparsity(schedule=ramp))
    result = experiment.train(network, data, how, folder, devices, callbacks)
    if devices.writes_files:
        experiment.report(result)
