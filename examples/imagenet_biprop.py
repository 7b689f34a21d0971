"""Multi-prize tickets on ImageNet, by the authors' recipes.

    python examples/imagenet_biprop.py --data_dir=data

searches for a sub-network with binary weights that classifies the images of
`imagenet2012`, as TensorFlow Datasets has prepared it in the folder data/, and
ends with a SavedModel that takes images and returns class scores. Any other
dataset in that format will do which has images of any sizes, labels, and the
splits train and validation: `--dataset=imagenette/160px-v2` names another.

The images of ImageNet cannot be fetched automatically. Put the two files
ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar into
data/downloads/manual, and pass `--download` once, which prepares them.
"""

from absl import app, flags

from mpt_keras.experiments import Place, Search
from mpt_keras.experiments.command import Output, in_one_line
from mpt_keras.experiments.flags import define, read

FLAGS = flags.FLAGS

define(
    (Search, Output, Place),
    {
        "dataset": "imagenet2012",
        "model": "imagenet_resnet18",
        "image_size": 224,
    },
)


def main(_):
    with in_one_line("imagenet_biprop.py"):
        read(Search).run(FLAGS.output_dir, FLAGS.resume, read(Place))


if __name__ == "__main__":
    app.run(main)
