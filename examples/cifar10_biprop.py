"""Multi-prize tickets on CIFAR-10, by the authors' recipes.

    python examples/cifar10_biprop.py --download --data_dir=data

searches Conv-4 for a sub-network with binary weights that classifies
CIFAR-10, and ends with a SavedModel that takes images and returns class
scores. `--method=edge_popup` keeps the random weights as they are,
`--method=dense` trains the same network the ordinary way, to compare with.
Whatever no flag says is as in the published recipe for the network and the
method; `--recipe` names another. In a notebook the same is

    mpt_keras.experiments.Search(sparsity=0.5).run(data_dir="data")
"""

from absl import app, flags

from mpt_keras.experiments import Place, Search
from mpt_keras.experiments.command import Output, in_one_line
from mpt_keras.experiments.flags import define, read

FLAGS = flags.FLAGS

define((Search, Output, Place))


def main(_):
    with in_one_line("cifar10_biprop.py"):
        read(Search).run(FLAGS.output_dir, FLAGS.resume, read(Place))


if __name__ == "__main__":
    app.run(main)
