"""Distilled tickets: pruned at once, trained on the dense network's outputs.

    python examples/kd_ticket.py

trains LeNet-300-100 on scikit-learn's digits, prunes it to a few percent in
one shot, and trains what is left in four ways: from its initial weights
(`retraining`) or from the state after --rewind_step (`rewinding`), each with
the labels alone and with the dense network as the teacher (`kd_ticket`,
`kd_rewinding`). Published is the training of `--model=resnet18
--dataset=cifar10`, without further flags.
"""

import command
import experiment
import recipes
import series
import small_images
import tickets
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

small_images.define_flags("digits", "lenet_300_100", recipes.KD)
flags.adopt_module_key_flags(tickets)
flags.DEFINE_list(
    "rounds",
    ["10", "15"],
    "Tickets, each pruned at once as far as so many rounds of --pruning_rate "
    "would.",
)
flags.register_validator(
    "rounds",
    lambda values: (
        values and all(v.strip().isdecimal() and int(v) > 0 for v in values)
    ),
    "Expected numbers of rounds from 1 on, separated by commas.",
)
flags.DEFINE_float("temperature", 5.0, "Divides the logits before the softmax.")
flags.DEFINE_float("alpha", 0.9, "Weight of the teacher, in [0, 1].")
flags.DEFINE_enum(
    "kl_reduction",
    "mean",
    mpt.lottery.REDUCTIONS,
    "Whether the divergence is divided by the number of classes as well, as "
    "in the authors' code for CIFAR, or by the batch alone.",
)
flags.DEFINE_bool(
    "only_convolutions",
    False,
    "Leave dense layers as they are; by default the recipe's.",
)


def pruning(network):
    """What the flags say of this network."""
    kernels = mpt.lottery.prunable_kernels(network)
    left = [name for name, kernel in kernels.items() if len(kernel.shape) == 2]
    return tickets.pruning(
        convolution_rate=FLAGS.convolution_rate,
        output_rate=FLAGS.output_rate,
        rates=dict.fromkeys(left, 0) if FLAGS.only_convolutions else {},
    )


def distilled(teacher):
    """Function from the model of a student to one that trains it."""

    def wrap(student):
        return mpt.lottery.distiller(
            *(teacher, student, FLAGS.temperature, FLAGS.alpha),
            FLAGS.kl_reduction,
        )

    return wrap


def run(lines, data, how, devices, folder):
    """All tickets of all seeds, each trained in the four ways."""
    rounds = sorted({int(number) for number in FLAGS.rounds})
    for seed in series.each_seed():
        network, teacher = tickets.build(devices), tickets.build(devices)
        teach = distilled(experiment.with_preprocessing(teacher, data))
        try:
            # Before anything is trained.
            teach(experiment.with_preprocessing(network, data))
        except ValueError as error:
            raise RunError(error) from error
        search = tickets.search(
            network,
            tickets.trainer(data, how, devices),
            folder / f"seed{seed}",
            *(pruning(network), data, how),
            one_shot=True,
        )
        with_teacher = tickets.trainer(data, how, devices, teach)
        plain = "rewinding" if FLAGS.rewind_step else "retraining"
        for ticket in search.run(rounds):
            tickets.add(lines, plain, ticket, seed)
            if ticket.number == 0:
                search.load(ticket)
                teacher.set_weights(network.get_weights())
                continue
            ways = [("kd_ticket", "initial", with_teacher)]
            if FLAGS.rewind_step:
                ways.insert(0, ("retraining", "initial", None))
                ways.append(("kd_rewinding", "rewound", with_teacher))
            for name, begin, train in ways:
                found = search.retrain(ticket.number, name, begin, train=train)
                tickets.add(lines, name, found, seed)
        tickets.ship(search, found, network, data, search.folder, devices)


def main(_):
    tickets.main(recipes.KD, "kd", run)


if __name__ == "__main__":
    command.run(main)
