"""What the searches for masks share: the flags of method, and their use."""

import experiment
import recipes
import run_folder
import sparsity_flag
import training
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

# So that --help of an example shows them all.
for _module in (training, sparsity_flag):
    flags.adopt_module_key_flags(_module)
flags.DEFINE_enum(
    "method",
    "biprop",
    ["biprop", "edge_popup", "dense"],
    "Binary weights, masked real weights, or ordinary training.",
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
    ["none", *mpt.weight_recycling.SOURCES],
    "What replaces random weights of low scores during the search: copies of "
    "those of the highest or of the next lowest scores, or random draws.",
)
flags.DEFINE_float(
    "recycled_fraction",
    None,
    f"Fraction of each layer's weights that is replaced each time{_RECIPES}.",
)
flags.DEFINE_integer(
    "recycling_every",
    None,
    "Epochs or steps from one replacement to the next, none after the first "
    f"and the last epoch{_RECIPES}.",
)
flags.DEFINE_enum(
    "recycling_per",
    None,
    ["epoch", "step"],
    f"What --recycling_every counts{_RECIPES}.",
)


_PERIOD = ("recycled_fraction", "recycling_every", "recycling_per")


def follow_recipe(rows, families):
    """Sets the flags that were not given to a recipe's values.

    Args:
        rows: Name of a recipe -> flag -> value.
        families: Name of a model -> family, the middle of its recipes' names.
    """
    names = recipes.names_for(
        families[FLAGS.model],
        FLAGS.method,
        FLAGS.binary_activations,
        FLAGS.trained_batch_norm,
        FLAGS.recycling,
    )
    training.follow_recipe(rows, names, fixed={"model", "method"})
    if FLAGS.recycling != "none":
        fill_in_period(recipes.REPLACEMENT[FLAGS.recycling])


def period():
    """Fraction, period and its unit, as the flags say them now."""
    return tuple(FLAGS[name].value for name in _PERIOD)


def set_period(values):
    """Sets the flags of `period`."""
    for name, value in zip(_PERIOD, values, strict=True):
        FLAGS[name].value = value


def fill_in_period(usual):
    """Sets what no flag and no recipe says of `period`.

    Raises:
        RunError: If a unit is given without its number.
    """
    _, every, per = period()
    if per is not None and every is None and per != usual[-1]:
        raise RunError(
            f"--recycling_per={per} needs --recycling_every as well."
        )
    for name, value in zip(_PERIOD, usual, strict=True):
        if FLAGS[name].value is None:
            FLAGS[name].value = value


def build(builders, devices, **shape):
    """Builds the network that the flags name.

    Args:
        builders: Name -> function that builds it.
        devices: `Devices`.
        **shape: `classes` and `input_shape` of the data.

    Raises:
        RunError: If the flags make no network.
    """
    return training.build(builders, devices, **shape, **_of_the_method())


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
    callbacks = callbacks_of_the_method()  # or an error, before the folder
    folder = run_folder.open_run_folder(
        f"{data.name}-{FLAGS.model}-{FLAGS.method}-{FLAGS.sparsity}", devices
    )
    result = experiment.train(network, data, how, folder, devices, callbacks)
    if devices.writes_files:
        experiment.report(result)


def callbacks_of_the_method():
    """Those that the search needs beside the optimizer.

    Raises:
        RunError: If the flags make none.
    """
    callbacks = []
    if FLAGS.global_sparsity and FLAGS.method == "dense":
        raise RunError("--global_sparsity needs a search, not --method=dense.")
    if FLAGS.global_sparsity:
        # The authors', down from one half.
        start = min(0.5, FLAGS.sparsity)
        ramp = mpt.schedules.Polynomial(start, FLAGS.sparsity, end=10)
        callbacks.append(mpt.callbacks.GlobalSparsity(schedule=ramp))
    if FLAGS.recycling != "none":
        if FLAGS.method == "dense":
            raise RunError("--recycling needs a search, not --method=dense.")
        try:
            recycling = mpt.callbacks.WeightRecycling(
                FLAGS.recycled_fraction,
                FLAGS.recycling_every,
                FLAGS.recycling,
                FLAGS.recycling_per,
                seed=FLAGS.seed,
            )
        except ValueError as error:
            raise RunError(error) from error
        callbacks.append(recycling)
    if FLAGS.method != "dense":
        callbacks.append(mpt.callbacks.MaskChurn())
    return callbacks
