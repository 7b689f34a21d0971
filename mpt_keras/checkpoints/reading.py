"""Reading a file of PyTorch's, and no code with it."""

import dataclasses
import pickle
import warnings
import zipfile

LAYER_WISE, GLOBAL, DENSE = "SubnetConv", "GlobalSubnetConv", "DenseConv"


class CheckpointError(ValueError):
    """A file that is not a whole checkpoint of a network that we know."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file says.

    Attributes:
        arch: The authors' name of the architecture.
        conv_type: How its weights are selected: one of the three above.
        keep: Fraction of weights kept, in (0, 1].
        arrays: Name -> NumPy array, in PyTorch's layout, without `module.`.
    """

    arch: str
    conv_type: str
    keep: float
    arrays: dict

    @property
    def is_masked(self):
        return self.conv_type != DENSE

    def kernel_shape(self, name):
        """Shape of a kernel that tells what shapes the others have."""
        shape = self.arrays[name].shape if name in self.arrays else None
        if shape is None or len(shape) != 4 or 0 in shape:
            raise CheckpointError(
                f"every {self.arch} has an array '{name}' of four dimensions. "
                f"Received: shape {shape} among {sorted(self.arrays)}"
            )
        return shape


def read(path):
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading PyTorch's checkpoints needs PyTorch ({error}). Install "
            'it: pip install "mpt_keras[torch]"'
        ) from error
    expected = (
        "Expected a file of torch.save: a dictionary with 'arch', "
        "'state_dict' and 'prune_rate'."
    )
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is refused anyway
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"Cannot read '{path}': it is damaged, or asks to run code instead "
            f"of holding plain values and arrays, which is refused. {expected} "
            f"PyTorch says: {_first_line(error)}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"Cannot read '{path}': it is missing or damaged. {expected} "
            f"The reason: {_first_line(error)}"
        ) from error
    try:
        return _checked(loaded, torch)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"Cannot load '{path}': {_first_line(error)}. {expected}"
        ) from error


def _check_archive(path):
    """Compares the sums of bits, which PyTorch does not."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except zipfile.BadZipFile as error:
            raise ValueError(str(error)) from error
        if damaged:
            raise ValueError(f"'{damaged}' in it has changed")


def _checked(loaded, torch):
    arrays = {}
    for name, value in loaded["state_dict"].items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"'{name}' in its state_dict is no array")
        arrays[name.removeprefix("module.")] = value.detach().numpy()
    if len(arrays) < len(loaded["state_dict"]):
        raise ValueError("its state_dict has names with and without 'module.'")
    checkpoint = Checkpoint(
        arch=str(loaded["arch"]),
        conv_type=str(loaded.get("conv_type", LAYER_WISE)),
        keep=float(loaded.get("prune_rate", 1.0)),
        arrays=arrays,
    )
    if checkpoint.is_masked and "prune_rate" not in loaded:
        raise KeyError("prune_rate")
    return checkpoint


def _first_line(error):
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
