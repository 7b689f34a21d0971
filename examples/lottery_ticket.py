"""Winning tickets: trained, pruned, set back, trained again.

    python examples/lottery_ticket.py

prunes LeNet-300-100 on scikit-learn's digits in ten rounds, a fifth of the
remaining weights in each, sets what is left back to its initial values and
trains it again; beside every ticket stand the same sub-network with new random
weights, and one at random places. The figure of the paper is

    python examples/lottery_ticket.py --dataset=mnist --download \\
        --data_dir=data --rounds=15 --seeds=0,1,2

with the published training for the network (`--model=conv4 --dataset=cifar10`
for another). `--rewind_step=500` goes back to a later state,
`--rewind=learning_rate` keeps the trained weights, `--one_shot` prunes only
once. A search that was interrupted continues with `--resume`, also with more
rounds, seeds or controls.
"""

import command
import recipes
import series
import small_images
import tickets
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

small_images.define_flags("digits", "lenet_300_100", recipes.LOTTERY)
flags.adopt_module_key_flags(tickets)
flags.DEFINE_integer("rounds", 10, "Rounds of pruning.", lower_bound=1)
flags.DEFINE_enum(
    "rewind",
    "weights",
    ["weights", "learning_rate"],
    "What goes back to --rewind_step, with the learning rate in any case.",
)
flags.DEFINE_bool(
    "one_shot", False, "Prune every ticket from the dense network at once."
)
flags.DEFINE_multi_enum(
    "controls",
    list(mpt.lottery.CONTROLS),
    ["none", *mpt.lottery.CONTROLS],
    "What is trained beside the tickets.",
)
flags.DEFINE_list(
    "control_rounds", [], "Only beside the tickets after these many rounds."
)
flags.register_validator(
    "control_rounds",
    lambda values: all(value.strip().isdecimal() for value in values),
    "Expected numbers of rounds, separated by commas.",
)


def control_rounds():
    """The rounds after which controls are trained; all by default.

    Raises:
        RunError: If one is none of --rounds.
    """
    everything = range(1, FLAGS.rounds + 1)
    asked = sorted(set(map(int, FLAGS.control_rounds)))
    if not set(asked) <= set(everything):
        raise RunError(
            f"--control_rounds={','.join(FLAGS.control_rounds)}: expected "
            f"rounds from 1 to {FLAGS.rounds} (--rounds)."
        )
    return asked or everything


def run(lines, data, how, devices, folder):
    """All tickets and controls of all seeds."""
    pruning = tickets.pruning(
        convolution_rate=FLAGS.convolution_rate, output_rate=FLAGS.output_rate
    )
    train = tickets.trainer(data, how, devices)
    controls = [name for name in FLAGS.controls if name != "none"]
    rounds = control_rounds()
    for seed in series.each_seed():
        network = tickets.build(devices)
        search = tickets.search(
            *(network, train, folder / f"seed{seed}", pruning, data, how),
            rewind_weights=FLAGS.rewind == "weights",
            one_shot=FLAGS.one_shot,
        )
        for ticket in search.run(range(FLAGS.rounds + 1)):
            tickets.add(lines, "winning_ticket", ticket, seed)
        for number in rounds:
            for name in controls:
                control = search.control(number, name, seed)
                tickets.add(lines, name, control, seed)
        tickets.ship(search, ticket, network, data, search.folder, devices)


def main(_):
    control_rounds()  # or an error, before anything is trained
    tickets.main(recipes.LOTTERY, "lottery", run)


if __name__ == "__main__":
    command.run(main)
