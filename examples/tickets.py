"""What the examples on ordinary networks share: pruning, levels, lines."""

import experiment
import keras
import recipes
import run_folder
import series
import small_images
import training
from absl import flags
from command import RunError

import mpt_keras as mpt
from mpt_keras.experiments.report import report

FLAGS = flags.FLAGS

for _module in (training, small_images, series):
    flags.adopt_module_key_flags(_module)
_RECIPES = "; by default the recipe's"
flags.DEFINE_float(
    "pruning_rate",
    0.2,
    f"Fraction of the remaining weights that a round prunes{_RECIPES}.",
)
flags.DEFINE_float(
    "convolution_rate",
    None,
    f"The same for convolution kernels; --pruning_rate if none{_RECIPES}.",
)
flags.DEFINE_float(
    "output_rate",
    None,
    "The same for the last layer; half of --pruning_rate if none, layer by "
    f"layer{_RECIPES}.",
)
flags.DEFINE_enum(
    "scope",
    "layer",
    mpt.lottery.SCOPES,
    f"Whether every layer is pruned by itself or all together{_RECIPES}.",
)
flags.DEFINE_integer(
    "rewind_step",
    0,
    f"Step of training that tickets go back to, 0 for the start{_RECIPES}.",
)
flags.DEFINE_enum(
    "initializer",
    "kaiming_normal",
    ["kaiming_normal", "glorot_normal"],
    f"The initial weights{_RECIPES}.",
)

# What more may be asked of a search that is resumed.
MAY_GROW = {"seeds", "rounds", "controls", "control_rounds"}


def main(rows, method, run):
    """What such an example does: by the recipe, into a folder, to a report.

    Args:
        rows: The recipes, name -> flag -> value.
        method: What these names begin with.
        run: Function of `Lines`, data, `Recipe`, `Devices` and folder.
    """
    how = how_to_train(rows, method)
    devices = training.start(how)
    if devices.workers > 1:
        raise RunError(
            "Ordinary networks are pruned on one machine. Expected "
            "--distribute=none, mirrored or tpu."
        )
    name = f"{FLAGS.dataset}-{FLAGS.model}-{method}"
    data = small_images.read_data()
    folder = run_folder.open_run_folder(name, devices, MAY_GROW)
    with series.stopping_in_one_line(folder):
        run(series.Lines(folder), data, how, devices, folder)
    report(folder)


def how_to_train(rows, method):
    """`Recipe` by the flags, and what they leave to the rows of a method."""
    family = small_images.FAMILIES[FLAGS.model]
    names = recipes.names_for_tickets(method, family, FLAGS.model)
    training.follow_recipe(rows, names, fixed={"model", "dataset"})
    small_images.augment_by_default()
    return training.how_to_train()


def build(devices):
    """The ordinary network that the flags name."""
    return training.build(
        small_images.MODELS,
        devices,
        masked=False,
        kernel_initializer=FLAGS.initializer,
        **small_images.shape_of_data(),
    )


def steps(data, how):
    """Steps of a whole training."""
    per_epoch = data.batches(how.batch_size, 0, False, False).per_epoch
    return how.epochs * per_epoch


def search(network, train, folder, pruning, data, how, **options):
    """A `TicketSearch` by the flags.

    Raises:
        RunError: If the flags make none.
    """
    try:
        return mpt.lottery.TicketSearch(
            network,
            train,
            folder,
            pruning,
            rewind_step=FLAGS.rewind_step,
            training_steps=steps(data, how),
            **options,
        )
    except ValueError as error:
        raise RunError(error) from error


def pruning(**options):
    """`Magnitude` by the flags.

    Raises:
        RunError: If a rate is none.
    """
    try:
        return mpt.lottery.Magnitude(
            rate=FLAGS.pruning_rate, scope=FLAGS.scope, **options
        )
    except ValueError as error:
        raise RunError(error) from error


def trainer(data, how, devices, distilled=None):
    """The `train` function of a `TicketSearch`.

    Args:
        data: `ImageData`.
        how: `Recipe`.
        devices: `Devices`.
        distilled: As for `experiment.train`.
    """

    def train(network, level):
        result = experiment.train(
            *(network, data, how, level.folder, devices, level.callbacks),
            first_step=level.first_step,
            ships=False,
            verbose=0,
            distilled=distilled,
        )
        # A training that had come to its end before was not repeated.
        last = keras.models.load_model(level.folder / "last.keras")
        network.set_weights(last.get_layer(network.name).get_weights())
        kept = ("test_accuracy", "best_test_accuracy", "seconds")
        kept += ("model", "data", "train_loss")
        return {name: result[name] for name in kept}

    return train


def add(lines, method, ticket, seed):
    """Adds a `Ticket` to the `Lines`; its level 0 is the dense network."""
    lines.add(
        method if ticket.number else "dense",
        ticket.sparsity if ticket.number else None,
        seed,
        ticket.folder,
        {
            "weights": ticket.weights,
            "weights_kept": ticket.kept,
            "rounds": ticket.number,
            **ticket.result,
        },
    )


def ship(search, ticket, network, data, folder, devices):
    """Leaves a ticket as a plain Keras file and as a SavedModel."""
    search.load(ticket)
    model = experiment.with_preprocessing(network, data)
    shipped = experiment.ship(model, data, folder, devices)
    path = shipped["saved_model"] or shipped["ticket"]
    print(
        f"The ticket with {ticket.kept / ticket.weights:.1%} of the weights: "
        f"{path}"
    )
