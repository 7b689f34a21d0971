"""Multi-prize tickets on CIFAR-10, by the authors' recipes.

    python examples/cifar10_biprop.py --download --data_dir=data

searches Conv-4 for a sub-network with binary weights that classifies
CIFAR-10, and ends with a SavedModel that takes images and returns class
scores. `--method=edge_popup` keeps the random weights as they are,
`--method=dense` trains the same network the ordinary way, to compare with.
Whatever no flag says is as in the published recipe for the network and the
method; `--recipe` names another.
"""

import command
import recipes
import search
import small_images
import training
from absl import flags

small_images.define_flags("cifar10", "conv4", recipes.CIFAR10)
for _module in (search, small_images):
    flags.adopt_module_key_flags(_module)


def main(_):
    search.follow_recipe(recipes.CIFAR10, small_images.FAMILIES)
    small_images.augment_by_default()
    how = training.how_to_train()
    devices = training.start(how)
    network = search.build(
        small_images.MODELS, devices, **small_images.shape_of_data()
    )
    search.train(network, small_images.read_data(), how, devices)


if __name__ == "__main__":
    command.run(main)
