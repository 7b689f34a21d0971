"""What the searches share: the flags of method and recipe, and their use."""

import distribution
import experiment
import keras
import recipes
import run_folder
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

# So that --help of an example shows them all.
for _module in (experiment, run_folder, distribution):
    flags.adopt_module_key_flags(_module)
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
    "Train scale and offset of the batch norms (+BN in the papers' tables), "
    "where the network has any.",
)
flags.DEFINE_bool(
    "global_sparsity",
    False,
    "One threshold for all layers, with the authors' ramp over ten epochs.",
)
_RECIPES = "; by default the recipe's"
flags.DEFINE_enum(
    "kernel_initializer",
    "kaiming_normal",
    ["kaiming_normal", "signed_constant"],
    f"The random weights{_RECIPES}.",
)
flags.DEFINE_enum(
    "scale_fan",
    "paper",
    ["paper", "authors", "none"],
    "How the weights' scale accounts for the sparsity: fan-in times the "
    "fraction kept, times the fraction pruned (the authors' code), or not"
    f"{_RECIPES}.",
)
flags.DEFINE_enum(
    "recycling",
    "none",
    ["none", *mpt.recycling.SOURCES],
    "What replaces random weights of low scores during the search: copies of "
    "those of the highest or of the next lowest scores, or random draws.",
)
flags.DEFINE_float(
    "recycled_fraction",
    0.2,
    f"Fraction of each layer's weights that is replaced each time{_RECIPES}.",
)
flags.DEFINE_integer(
    "recycling_every",
    10,
    "Epochs from one replacement to the next, none after the first and the "
    f"last epoch{_RECIPES}.",
)
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam"], f"Optimizer{_RECIPES}.")
flags.DEFINE_float("momentum", 0.9, f"Momentum of SGD{_RECIPES}.")
flags.DEFINE_float("learning_rate", 0.1, f"Highest learning rate{_RECIPES}.")
flags.DEFINE_enum(
    "schedule",
    "cosine",
    ["cosine", "constant"],
    f"Learning rate per epoch{_RECIPES}.",
)
flags.DEFINE_integer(
    "warmup_epochs",
    0,
    f"Epochs in which the learning rate rises to its height{_RECIPES}.",
)
flags.DEFINE_float(
    "label_smoothing",
    0.0,
    "Probability that is spread evenly over all classes, in the evaluation's "
    f"loss as well{_RECIPES}.",
)
flags.DEFINE_float(
    "score_decay",
    0.0,
    "Weight decay of what trains, the scores above all, added to their "
    f"gradient{_RECIPES}.",
)
flags.DEFINE_integer("batch_size", 128, f"Images per step{_RECIPES}.")
flags.DEFINE_bool("augment", True, "Crop and flip the images at random.")
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


def define_models(builders, default, rows):
    """Defines --model and --recipe, which every example has its own of.

    Args:
        builders: Name -> function that builds the network.
        default: One of these names.
        rows: Name of a recipe -> flag -> value.
    """
    flags.DEFINE_enum("model", default, sorted(builders), "Network.")
    flags.DEFINE_enum(
        "recipe",
        None,
        sorted(rows),
        "The published settings for whatever no other flag says; by default "
        "those for the model, the method, the activations and batch norms.",
    )


def follow_recipe(rows, families):
    """Sets the flags that were not given to a recipe's values.

    Args:
        rows: Name of a recipe -> flag -> value.
        families: Name of a model -> family, the middle of its recipes' names.
    """
    if FLAGS.recipe is None:
        names = recipes.names_for(
            families[FLAGS.model],
            FLAGS.method,
            FLAGS.binary_activations,
            FLAGS.trained_batch_norm,
            FLAGS.recycling != "none",
        )
        FLAGS.recipe = next(name for name in names if name in rows)
        # These chose it.
        fixed = {"model", "method", "binary_activations", "trained_batch_norm"}
        fixed.add("recycling")
    else:
        fixed = set()
    for name, value in rows[FLAGS.recipe].items():
        if FLAGS[name].using_default_value and name not in fixed:
            FLAGS[name].value = value


def how_to_train():
    """What the flags say, as a `Recipe`."""
    return experiment.Recipe(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        optimizer=FLAGS.optimizer,
        learning_rate=FLAGS.learning_rate,
        schedule=FLAGS.schedule,
        momentum=FLAGS.momentum,
        augment=FLAGS.augment,
        warmup_epochs=FLAGS.warmup_epochs,
        label_smoothing=FLAGS.label_smoothing,
    )


def start(how):
    """Like `experiment.start`, in the precision asked for."""
    if FLAGS.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{FLAGS.mixed_precision}")
    return experiment.start(how)


def build(builders, devices, **shape):
    """Builds the network that the flags name.

    Args:
        builders: Name -> function that builds it.
        devices: `Devices`.
        **shape: `classes` and `input_shape` of the data.

    Raises:
        RunError: If the flags make no network.
    """
    decay = FLAGS.score_decay
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
            return builders[FLAGS.model](**options)
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
    result = experiment.train(
        network, data, how, folder, devices, callbacks_of_the_method()
    )
    if devices.writes_files:
        experiment.report(result)


def callbacks_of_the_method():
    """Those that the search needs beside the optimizer.

    Raises:
        RunError: If the flags make none.
    """
    callbacks = []
    if FLAGS.global_sparsity:
        ramp = mpt.schedules.CubicRamp(FLAGS.sparsity)
        callbacks.append(mpt.callbacks.GlobalSparsity(schedule=ramp))
    if FLAGS.recycling != "none":
        if FLAGS.method == "dense":
            raise RunError("--recycling needs a search, not --method=dense.")
        try:
            recycling = mpt.callbacks.WeightRecycling(
                FLAGS.recycled_fraction,
                FLAGS.recycling_every,
                FLAGS.recycling,
                seed=FLAGS.seed,
            )
        except ValueError as error:
            raise RunError(error) from error
        callbacks.append(recycling)
    return callbacks
