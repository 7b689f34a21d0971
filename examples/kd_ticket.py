"""Distilled tickets: pruned at once, trained on the dense network's outputs.

    python examples/kd_ticket.py

trains LeNet-300-100 on scikit-learn's digits, prunes it to a few percent in
one shot, and trains what is left with the labels alone (`one_shot`) and with
the dense network as the teacher (`kd_ticket`). With `--rewind_steps=200` both
also go back to the state after so many steps instead of the start. Published
is the training of `--model=resnet18 --dataset=cifar10`, without further flags.
"""

from absl import app, flags

from mpt_keras.experiments import Distilled, Place, report
from mpt_keras.experiments.command import Output, in_one_line
from mpt_keras.experiments.flags import define, read

FLAGS = flags.FLAGS

define(
    (Distilled, Output, Place),
    {"dataset": "digits", "model": "lenet_300_100"},
)


def main(_):
    with in_one_line("kd_ticket.py"):
        experiment = read(Distilled)
        found = experiment.run(FLAGS.output_dir, FLAGS.resume, read(Place))
        report(found.folder)


if __name__ == "__main__":
    app.run(main)
