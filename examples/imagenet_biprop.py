"""Multi-prize tickets on ImageNet, by the authors' recipes.

    python examples/imagenet_biprop.py --data_dir=data

searches for a sub-network with binary weights that classifies the images of
`imagenet2012`, as TensorFlow Datasets has prepared it in the folder data/, and
ends with a SavedModel that takes images and returns class scores. Any other
dataset in that format will do which has images of any sizes, labels, and the
splits train and validation: `--dataset_name` names it.

The images of ImageNet cannot be fetched automatically. Put the two files
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into
data/downloads/manual, and pass `--download` once, which prepares them.
"""

import command
import recipes
import search
import training
from absl import flags

import mpt_keras as mpt
from mpt_keras.experiments import data
from mpt_keras.experiments.place import Place

FLAGS = flags.FLAGS

_MODELS = {
    "conv4": mpt.models.conv4,  # for small images
    **{
        name: getattr(mpt.models, name)
        for name in (
            *("imagenet_resnet18", "imagenet_resnet34"),
            *("imagenet_resnet50", "imagenet_resnet101"),
            *("imagenet_wide_resnet18_2", "imagenet_wide_resnet18_3"),
            *("imagenet_wide_resnet34_2", "imagenet_wide_resnet34_3"),
            *("imagenet_wide_resnet50_2", "imagenet_wide_resnet101_2"),
        )
    },
}
_FAMILIES = {
    **dict.fromkeys(_MODELS, "resnet"),
    "imagenet_wide_resnet34_2": "wide_resnet34",
    "imagenet_wide_resnet50_2": "wide_resnet",
    "imagenet_wide_resnet101_2": "wide_resnet",
}

training.define_models(_MODELS, "imagenet_resnet18", recipes.IMAGENET)
flags.adopt_module_key_flags(search)
flags.DEFINE_string("data_dir", None, "Folder of TensorFlow Datasets.")
flags.DEFINE_bool(
    "download",
    False,
    "Prepare the images if they are missing. Those of imagenet2012 must have "
    "been put into downloads/manual in --data_dir by hand.",
)
flags.DEFINE_string(
    "dataset_name",
    "imagenet2012",
    "Dataset, with configuration and version if need be, such as "
    "imagenette/160px-v2. Expected: image, label, and the splits train and "
    "validation.",
)
flags.DEFINE_integer(
    "image_size",
    224,
    "Height and width of the network's images. Evaluation shows the middle of "
    "an image whose short side is 256/224 of that.",
)
flags.register_validator(
    "image_size", lambda value: value > 0, "Expected a positive number."
)


def main(_):
    search.follow_recipe(recipes.IMAGENET, _FAMILIES)
    how = training.how_to_train()
    devices = training.start(how)
    place = Place(data_dir=FLAGS.data_dir, download=FLAGS.download)
    images = data.read(FLAGS.dataset_name, place, FLAGS.image_size)
    network = search.build(
        _MODELS,
        devices,
        classes=images.classes,
        input_shape=images.image_shape,
    )
    search.train(network, images, how, devices)


if __name__ == "__main__":
    command.run(main)
