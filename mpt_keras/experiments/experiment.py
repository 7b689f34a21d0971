"""The settings that all kinds of experiments have.

What is None was not said: then the recipe that the experiment follows says it,
or what is usual (`following`).
"""

import dataclasses
import os
import typing

from mpt_keras.experiments import networks, recipes
from mpt_keras.experiments.place import Place
from mpt_keras.experiments.result import Result
from mpt_keras.experiments.settings import (
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    Checked,
    integer_from,
    setting,
)

_RECIPES = (
    *(*recipes.SMALL, *recipes.IMAGENET),
    *(*recipes.LOTTERY, *recipes.KD),
)
_SGD = {"optimizer": ("sgd",)}
_Self = typing.TypeVar("_Self", bound="Experiment")

# What is usual and depends on other settings, for `following.follow`.
USUAL = {
    "validation": lambda values: 0.0 if values["recipe"] else 0.1,
    "augment": lambda values: values["dataset"] == "cifar10",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Checked):
    """What all kinds have: images, network, training."""

    kind: typing.ClassVar[str]
    # Settings of which more may be asked when a run is continued.
    may_grow: typing.ClassVar[tuple] = ()

    dataset: str | None = setting(
        None,
        "Images to classify: cifar10, mnist, digits (from scikit-learn, "
        "without a download), or another name in the catalog of TensorFlow "
        "Datasets, such as imagenet2012.",
        usual="cifar10",
    )
    image_size: int | None = setting(
        None,
        "Height and width in pixels of images that are read from disk as they "
        "are needed; evaluation shows the middle of an image whose short side "
        "is 256/224 of that. 224 where the images have many sizes.",
        **integer_from(1),
    )
    model: str | None = setting(
        None,
        f"Network: {networks.EXPECTED}.",
        usual="conv4",
        accepts=networks.is_known,
        expected=networks.EXPECTED,
    )
    recipe: str | None = setting(
        None,
        "Published settings for whatever is not said; by default those for "
        "the model, the method, the activations and batch norms. A name that "
        "is none lists them all.",
        accepts=lambda name: name in _RECIPES,
        expected=f"one of {', '.join(_RECIPES)}",
    )
    width: float | None = setting(
        None, "Multiplier of every layer's width.", usual=1.0, **POSITIVE
    )
    binary_activations: bool | None = setting(
        None, "Binary activations as well.", usual=False
    )
    trained_batch_norm: bool | None = setting(
        None,
        "Train scale and offset of the batch norms (+BN in the papers' "
        "tables).",
        usual=False,
    )
    epochs: int | None = setting(
        None, "Epochs of training.", usual=20, **integer_from(1)
    )
    batch_size: int | None = setting(
        None,
        "Images per step, over all devices.",
        usual=128,
        **integer_from(1),
    )
    optimizer: str | None = setting(
        None, "Optimizer.", usual="sgd", choices=("sgd", "adam")
    )
    momentum: float | None = setting(
        None, "Momentum of SGD.", usual=0.9, needs=_SGD, **FRACTION
    )
    learning_rate: float | None = setting(
        None, "Highest learning rate.", usual=0.1, **POSITIVE
    )
    schedule: str | None = setting(
        None,
        "Learning rate per epoch.",
        usual="cosine",
        choices=("cosine", "constant", "steps"),
    )
    milestones: tuple[int, ...] | None = setting(
        None,
        "Epochs from which on the learning rate is a tenth of what it was.",
        usual=(),
        needs={"schedule": ("steps",)},
        **integer_from(0),
    )
    warmup_epochs: int | None = setting(
        None,
        "Epochs in which the learning rate rises to its height.",
        usual=0,
        **integer_from(0),
    )
    label_smoothing: float | None = setting(
        None,
        "Probability that is spread evenly over all classes, in the "
        "evaluation's loss as well.",
        usual=0.0,
        **FRACTION,
    )
    score_decay: float | None = setting(
        None,
        "Weight decay of what trains, the scores above all, added to their "
        "gradient.",
        usual=0.0,
        **NOT_NEGATIVE,
    )
    augment: bool | None = setting(
        None,
        "Crop and flip the images at random; where nobody says it, as suits "
        "the images.",
    )
    validation: float | None = setting(
        None,
        "Images held out of the training images, a fraction below 1 or a "
        "number of images: they choose the best epoch, and tell where training "
        "could have stopped. 0 with a recipe that is named, as published.",
        accepts=lambda value: (
            0 <= value < 1 or (value > 0 and value.is_integer())
        ),
        expected="a fraction in [0, 1) or a number of images",
    )
    mixed_precision: str = setting(
        "none",
        "Type of the activations; scores stay in float32.",
        choices=("none", "bfloat16", "float16"),
    )
    drop_remainder: bool | None = setting(
        None,
        "End an epoch with its last whole batch; by default only on several "
        "devices, which share every batch evenly.",
    )
    seed: int = setting(0, "Seed of weights, scores, order and crops.", **SEED)

    def run(
        self,
        folder: str | os.PathLike | None = None,
        resume: bool = False,
        place: Place | None = None,
        **of_the_place: typing.Any,
    ) -> Result:
        """Trains, writes a folder, and returns what was found.

        Args:
            folder: Path of the run's folder, new or empty; None for one under
                `runs/`.
            resume: Whether to continue the run that is there after its last
                whole epoch, as if it had never stopped; begins it if there is
                none.
            place: `Place`: devices and where the images are.
            **of_the_place: Or its settings, such as `data_dir="data"`.

        Returns:
            A `Result`; None in a worker that writes no files.

        Raises:
            RunError: If the run cannot start or finish, with what to do.
            ValueError: If the settings make no run.

        Example:

        >>> search = mpt_keras.experiments.Search(
        ...     dataset="digits", model="conv2", width=0.1, method="dense",
        ...     epochs=1,
        ... )
        >>> result = search.run("runs/a", verbose="0")
        conv2 on digits, dense: test accuracy ...% (after epoch 1, ...
        >>> result.figures["weights_kept"]
        3653
        >>> result.model().input_shape
        (None, 8, 8, 1)
        """
        from mpt_keras.experiments import running

        return running.run(
            self.followed(),
            self._plan,
            folder,
            resume,
            running.as_place(place, of_the_place),
        )

    def replace(self: _Self, **settings: typing.Any) -> _Self:
        """The same experiment with other settings."""
        return dataclasses.replace(self, **settings)

    def to_json(self) -> dict:
        """The settings that were said and the kind, for `from_json`."""
        return {"kind": self.kind, **self.said()}
