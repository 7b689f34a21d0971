"""Random weights that do not matter make way for copies of those that do.

    python examples/recycling.py

searches Conv-2 on scikit-learn's digits for a ticket with 90 % of the weights
pruned, without and with iterative weight recycling, from the same random
weights, and leaves table and plot of both. `--method=edge_popup` keeps real
weights, `--sources=none,highest,next_lowest,random` adds the ablation and
iterative randomisation, `--dataset=cifar10 --model=conv4` is what was
published. The log of an epoch says how much of the mask it changed.
"""

import command
import experiment
import recipes
import run_folder
import search
import series
import small_images
import training
from absl import flags
from command import RunError

import mpt_keras as mpt
from mpt_keras.experiments.report import report

FLAGS = flags.FLAGS

small_images.define_flags("digits", "conv2", recipes.CIFAR10)
for _module in (search, small_images, series):
    flags.adopt_module_key_flags(_module)
_CHOICES = ("none", *mpt.weight_recycling.SOURCES)
flags.DEFINE_list(
    "sources",
    ["none", "highest"],
    f"What --recycling says, one after the other, out of {', '.join(_CHOICES)}",
)
flags.register_validator(
    "sources",
    lambda values: values and set(values) <= set(_CHOICES),
    f"Expected one or more of {', '.join(_CHOICES)}, separated by commas.",
)
# Where recycling makes a difference, and the search is short.
FLAGS.set_default("sparsity", 0.9)
FLAGS.set_default("width", 0.25)


def _periods(given):
    """Source -> fraction, period and unit, where no flag says them.

    The recipe's are those of copies.
    """
    of_draws = zip(given, recipes.REPLACEMENT["random"], strict=True)
    return {
        **dict.fromkeys(_CHOICES, search.period()),
        "random": tuple(
            usual if flag is None else flag for flag, usual in of_draws
        ),
    }


def _replace_from(source, periods):
    FLAGS["recycling"].value = source
    search.set_period(periods[source])


def run(lines, data, how, devices, folder, periods):
    """A search for every seed and source."""
    for seed in series.each_seed():
        for source in dict.fromkeys(FLAGS.sources):
            _replace_from(source, periods)
            network = search.build(
                small_images.MODELS, devices, **small_images.shape_of_data()
            )
            method = FLAGS.method
            if source != "none":
                method += f"_recycling_{source}"
            own_folder = folder / f"{method}-seed{seed}"
            own_folder.mkdir(exist_ok=True)
            result = experiment.train(
                *(network, data, how, own_folder, devices),
                search.callbacks_of_the_method(),
                verbose=0,
            )
            lines.add(method, result["sparsity"], seed, own_folder, result)


def main(_):
    if FLAGS.method == "dense":
        raise RunError("Recycling needs a search, not --method=dense.")
    if FLAGS.recycling != "none":
        raise RunError("Name what is recycled in --sources, not --recycling.")
    given = search.period()
    # The recipe is that of recycling, also for the search without it.
    FLAGS.recycling = "highest"
    search.follow_recipe(recipes.CIFAR10, small_images.FAMILIES)
    small_images.augment_by_default()
    periods = _periods(given)
    for source in FLAGS.sources:
        _replace_from(source, periods)
        search.callbacks_of_the_method()  # or an error, before any training
    _replace_from("highest", periods)  # whatever sources come first
    how = training.how_to_train()
    devices = training.start(how)
    if devices.workers > 1:
        raise RunError("This example trains on one machine.")
    data = small_images.read_data()
    folder = run_folder.open_run_folder(
        f"{FLAGS.dataset}-{FLAGS.model}-recycling",
        devices,
        {"seeds", "sources"},
    )
    with series.stopping_in_one_line(folder):
        run(series.Lines(folder), data, how, devices, folder, periods)
    report(folder)


if __name__ == "__main__":
    command.run(main)
