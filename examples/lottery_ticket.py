"""Winning tickets: trained, pruned, set back, trained again.

    python examples/lottery_ticket.py

prunes LeNet-300-100 on scikit-learn's digits in ten rounds, a fifth of the
remaining weights in each, sets what is left back to its initial values and
trains it again; beside every ticket stand the same sub-network with new random
weights, and one at random places. The network of the paper is

    python examples/lottery_ticket.py --dataset=mnist --download \\
        --data_dir=data --rounds=15

with the published training for the network (`--model=conv4 --dataset=cifar10`
for another). `--rewind_steps=500` goes back to a later state, `--ways` names
other ways to find and to train tickets. A search that was interrupted
continues with `--resume`, also with more rounds, ways or draws.
"""

from absl import app, flags

from mpt_keras.experiments import Place, WinningTicket, report
from mpt_keras.experiments.command import Output, in_one_line
from mpt_keras.experiments.flags import define, read

FLAGS = flags.FLAGS

define(
    (WinningTicket, Output, Place),
    {"dataset": "digits", "model": "lenet_300_100"},
)


def main(_):
    with in_one_line("lottery_ticket.py"):
        experiment = read(WinningTicket)
        found = experiment.run(FLAGS.output_dir, FLAGS.resume, read(Place))
        report(found.folder)


if __name__ == "__main__":
    app.run(main)
