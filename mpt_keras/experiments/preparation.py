"""What a run needs before it builds a network: seeds, devices, images."""

import contextlib
import dataclasses
from typing import Any

import keras

from mpt_keras.experiments import data, devices
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Settings in force, and what they need.

    Attributes:
        settings: An experiment whose settings are all said.
        place: `Place`.
        images: `data.ImageData` or what offers the same.
        devices: `devices.Devices`.
    """

    settings: Any
    place: Place
    images: Any
    devices: devices.Devices

    @property
    def shape(self):
        """The arguments of a network that the images decide."""
        return {
            "classes": self.images.classes,
            "input_shape": self.images.image_shape,
        }

    def batches(self):
        """The batches of all epochs; a `data.BatchPlan`."""
        return self.images.batches(
            self.settings.batch_size,
            self.settings.seed,
            self.settings.augment,
            self.devices.drops_remainder(self.settings.drop_remainder),
        )

    @property
    def largest_evaluation_batch(self):
        """How many images a step of the evaluation has at most."""
        if self.place.evaluation_batch is not None:
            return self.place.evaluation_batch
        height, width, _ = self.images.image_shape
        return min(max(2**22 // (height * width), 1), 500)

    def evaluation_batch(self, count):
        """Images per step of the evaluation of so many."""
        return self.devices.evaluation_batch(
            count, self.largest_evaluation_batch
        )


@contextlib.contextmanager
def prepared(settings, place, folder=None):
    """Seeds everything, sets up the devices, and reads the images.

    Raises:
        RunError: If devices or images cannot be had.
        ValueError: If the settings do not fit the images.
    """
    before = keras.config.dtype_policy()
    if settings.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{settings.mixed_precision}")
    try:
        keras.utils.set_random_seed(settings.seed)
        found = devices.start(settings.batch_size, place, folder)
        images = data.read(
            settings.dataset, place, settings.image_size, settings.validation
        )
        ready = Prepared(settings, place, images, found)
        if ready.batches().per_epoch == 0:
            raise RunError(
                f"batch_size={settings.batch_size} is more than the "
                f"{images.train_count} images of an epoch."
            )
        yield ready
    finally:
        keras.config.set_dtype_policy(before)
