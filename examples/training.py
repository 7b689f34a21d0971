"""How a network is trained: the flags of the recipes, and their use."""

import distribution
import experiment
import keras
import run_folder
from absl import flags
from command import RunError

FLAGS = flags.FLAGS

# So that --help of an example shows them all.
for _module in (experiment, run_folder, distribution):
    flags.adopt_module_key_flags(_module)
flags.DEFINE_float("width", 1.0, "Multiplier of every layer's width.")
flags.DEFINE_bool("binary_activations", False, "Binary activations as well.")
flags.DEFINE_bool(
    "trained_batch_norm",
    False,
    "Train scale and offset of the batch norms (+BN in the papers' tables), "
    "where the network has any.",
)
_RECIPES = "; by default the recipe's"
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam"], f"Optimizer{_RECIPES}.")
flags.DEFINE_float("momentum", 0.9, f"Momentum of SGD{_RECIPES}.")
flags.DEFINE_float("learning_rate", 0.1, f"Highest learning rate{_RECIPES}.")
flags.DEFINE_enum(
    "schedule",
    "cosine",
    ["cosine", "constant", "steps"],
    f"Learning rate per epoch{_RECIPES}.",
)
flags.DEFINE_list(
    "milestones",
    [],
    "Epochs from which on the learning rate is a tenth of what it was, for "
    f"--schedule=steps{_RECIPES}.",
)
flags.register_validator(
    "milestones",
    lambda values: all(value.strip().isdecimal() for value in values),
    "Expected epochs, separated by commas.",
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
flags.DEFINE_integer(
    "kernel_seed",
    None,
    "Seed of the random (or initial) weights; --seed if none. One for several "
    "seeds makes them searches of one random network.",
)
flags.DEFINE_bool(
    "augment",
    None,
    f"Crop and flip the images at random{_RECIPES}, or as suits the images.",
)
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


def follow_recipe(rows, names, fixed=()):
    """Sets the flags that were not given to a recipe's values.

    Args:
        rows: Name of a recipe -> flag -> value.
        names: Names of the recipes that would fit, the best first; used where
            --recipe names none.
        fixed: The flags that chose these names.
    """
    if FLAGS.recipe is None:
        FLAGS.recipe = next(name for name in names if name in rows)
    else:
        fixed = ()
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
        milestones=tuple(map(int, FLAGS.milestones)),
    )


def start(how):
    """Like `experiment.start`, in the precision asked for."""
    if FLAGS.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{FLAGS.mixed_precision}")
    return experiment.start(how)


def build(builders, devices, **options):
    """Builds the network that the flags name.

    Args:
        builders: Name -> function that builds it.
        devices: `Devices`.
        **options: Further arguments of that function.

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
        "kernel_seed": FLAGS.kernel_seed,
        **options,
    }
    try:
        with devices.scope():
            return builders[FLAGS.model](**options)
    except ValueError as error:
        raise RunError(error) from error
