"""Where a run computes, and where its images are."""

import dataclasses

from mpt_keras.experiments.settings import (
    POSITIVE,
    Checked,
    NoEffectError,
    documented,
    integer_from,
    refuse_without_effect,
    setting,
)

DISTRIBUTE = ("none", "mirrored", "multiworker", "tpu")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Place(Checked):
    """Where a run computes, and where its images are.

    It may be another when a run is continued, apart from the devices: it
    changes no setting.

    Raises:
        ValueError: If a value is none of its setting, or has no effect beside
            the others.

    Example:

    >>> place = Place(data_dir="data", distribute="mirrored")
    >>> place.said()
    {'data_dir': 'data', 'distribute': 'mirrored'}
    """

    data_dir: str | None = setting(None, "Folder of TensorFlow Datasets.")
    download: bool = setting(False, "Fetch the images if they are missing.")
    images: str | None = setting(
        None,
        "Plain file of the images instead, which needs neither TensorFlow nor "
        "TensorFlow Datasets: a NumPy .npz with train_images (uint8, NHWC), "
        "train_labels, test_images and test_labels, or with PNG or JPEG files "
        "end to end in train_bytes, from train_offsets on.",
    )
    distribute: str = setting(
        "none",
        "none: one device. mirrored: all devices of this machine "
        "(MirroredStrategy on TensorFlow, DataParallel on JAX). multiworker: "
        "several machines named by TF_CONFIG, started alike. tpu: the TPU "
        "named by --tpu. Batch norms then see the statistics of the whole "
        "batch.",
        choices=DISTRIBUTE,
    )
    tpu: str = setting(
        "local",
        "TPU: 'local' on a TPU virtual machine, a name, or grpc://.",
        needs={"distribute": ("tpu",)},
    )
    worker_timeout: float = setting(
        600.0,
        "Seconds to wait for the other workers or for the TPU.",
        needs={"distribute": ("multiworker", "tpu")},
        **POSITIVE,
    )
    cpu_devices: int | None = setting(
        None,
        "Treat the processor as so many devices, to try --distribute without "
        "accelerators.",
        **integer_from(1),
    )
    deterministic: bool = setting(
        False,
        "Let TensorFlow use only operations that repeat their results to the "
        "bit, also on GPUs; slower.",
    )
    evaluation_batch: int | None = setting(
        None,
        "Images per step of the evaluation, over all devices.",
        usual="as many as hold 2**22 pixels, at most 500",
        **integer_from(1),
    )
    verbose: str = setting(
        "auto",
        "Progress: 0 none, 1 a bar, 2 a line an epoch, auto as the screen has "
        "it.",
        choices=("auto", "0", "1", "2"),
    )

    def __post_init__(self):
        if type(self.verbose) is int:  # as `keras.Model.fit` takes it
            object.__setattr__(self, "verbose", str(self.verbose))
        super().__post_init__()

    def check(self, dataset):
        """Refuses what was said and has no effect.

        Args:
            dataset: Name of the images of a run.

        Raises:
            NoEffectError: With what it is and why.
        """
        said = self.said()
        refuse_without_effect(self, said)
        if self.images is not None:
            why = "the images are those of images=FILE"
        elif dataset == "digits":
            why = "digits come with scikit-learn"
        else:
            return
        for name in {"data_dir", "download"} & said.keys():
            raise NoEffectError(name, said[name], why)
