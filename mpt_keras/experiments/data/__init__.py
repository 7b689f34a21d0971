"""Images to train on: in memory or streamed, some held out for validation."""

from mpt_keras.experiments.data.datasets import DATASETS, Dataset, read

__all__ = ["DATASETS", "Dataset", "read"]
