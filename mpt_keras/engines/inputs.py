"""What a model takes, and inputs to try it with."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Stands for a dimension that the model leaves open.
_OPEN = 32


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """One input of a model.

    Attributes:
        name: Its name in the model, by which engines know it.
        shape: Without the batch; None where the model leaves it open.
        dtype: Name of the type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def is_open(self) -> bool:
        return None in self.shape


def model_inputs(model: keras.Model) -> tuple[ModelInput, ...]:
    """Returns a model's inputs, in the order of `keras.tree.flatten`.

    Raises:
        ValueError: If the model does not say what it takes.

    Example:

    >>> model_inputs(model)[0].shape
    (4,)
    """
    structure = input_structure(model)
    if structure is not None:
        return tuple(
            ModelInput(source.name, tuple(source.shape[1:]), source.dtype)
            for source in keras.tree.flatten(structure)
        )
    shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)) or isinstance(
        shape[0], (tuple, list)
    ):
        raise ValueError(
            f"Cannot tell what model '{model.name}' takes: it is subclassed "
            "and has several inputs. Expected a Sequential or functional "
            "model; wrap it: keras.Model(inputs, model(inputs))."
        )
    return (ModelInput("inputs", tuple(shape[1:]), model.input_dtype),)


def input_structure(model: keras.Model) -> Any:
    """The symbolic inputs, as a model takes them; None of a subclassed one."""
    if isinstance(model, keras.Sequential):
        (source,) = model.inputs
        return source
    return model.input if isinstance(model, keras.Function) else None


def output_structure(model: keras.Model) -> Any:
    """The symbolic outputs of a Sequential or functional model."""
    if isinstance(model, keras.Sequential):
        (output,) = model.outputs
        return output
    return model.output


def signature(model: keras.Model, batch_size: int | None) -> list[Any]:
    """The signature for Keras' `export`, with the batch and names given."""

    def spec(tensor):
        shape = (batch_size, *tensor.shape[1:])
        return keras.InputSpec(
            shape=shape, dtype=tensor.dtype, name=tensor.name
        )

    structure = input_structure(model)
    if structure is not None:
        return [keras.tree.map_structure(spec, structure)]
    (source,) = model_inputs(model)
    shape = (batch_size, *source.shape)
    return [keras.InputSpec(shape=shape, dtype=source.dtype)]


def random_arrays(
    sources: Sequence[ModelInput], count: int, seed: int = 0, like=()
) -> list[np.ndarray]:
    """Draws a batch: normal floats, bytes of all values, other integers 0 or 1.

    Args:
        sources: The model's inputs.
        count: Number of examples.
        seed: Of the draw.
        like: Arrays that say how large open dimensions are; they are 32
            otherwise.

    Raises:
        ValueError: If an input is not of numbers.

    Example:

    >>> random_arrays([ModelInput("x", (3,), "uint8")], count=2)[0].shape
    (2, 3)
    """
    generator = np.random.default_rng(seed)
    shapes = [array.shape[1:] for array in like] or [
        tuple(_OPEN if size is None else size for size in source.shape)
        for source in sources
    ]
    return [
        _draw(generator, source, (count, *shape))
        for source, shape in zip(sources, shapes, strict=True)
    ]


def _draw(generator, source, shape):
    if source.dtype.startswith("float"):
        return generator.standard_normal(shape).astype(source.dtype)
    if source.dtype in ("uint8", "int8"):
        limits = np.iinfo(source.dtype)
        return generator.integers(
            limits.min, limits.max, shape, source.dtype, endpoint=True
        )
    if source.dtype.startswith(("int", "uint", "bool")):
        return generator.integers(0, 2, shape).astype(source.dtype)
    raise ValueError(
        f"Cannot draw random inputs of type {source.dtype} (input "
        f"'{source.name}'). Expected inputs of numbers."
    )


def given_arrays(given: Any, sources: Sequence[ModelInput]) -> list[np.ndarray]:
    """The arrays of a batch that the user gives, checked.

    Args:
        given: An array, a list of arrays as the model takes them, or a
            dictionary by the names of the inputs.
        sources: The model's inputs.

    Raises:
        ValueError: If their number, a name, a shape or the length of the batch
            is not the model's, or the model's type cannot hold the numbers.
    """
    if isinstance(given, Mapping):
        names = [source.name for source in sources]
        if given.keys() != set(names):
            raise ValueError(
                "Invalid value for argument `inputs`. Expected a dictionary "
                f"with the keys {names}. Received: the keys {list(given)}"
            )
        given = [given[name] for name in names]
    arrays = [np.asarray(array) for array in keras.tree.flatten(given)]
    expected = [(None, *source.shape) for source in sources]
    received = [array.shape for array in arrays]
    fits = len(arrays) == len(sources) and all(
        len(shape) == len(wanted)
        and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))
        for shape, wanted in zip(received, expected, strict=True)
    )
    lengths = {shape[0] for shape in received if shape}
    if not fits or len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "Invalid value for argument `inputs`. Expected a batch as the "
            f"model takes it, arrays of shapes {expected}. Received: arrays "
            f"of shapes {received}"
        )
    return [
        _cast(array, source)
        for array, source in zip(arrays, sources, strict=True)
    ]


def _cast(array, source):
    if array.dtype.name == source.dtype:
        return array
    is_number = array.dtype.kind in "biuf"
    if is_number and keras.backend.is_float_dtype(source.dtype):
        return array.astype(source.dtype)
    if is_number and array.dtype.kind != "f":
        cast = array.astype(source.dtype)
        if np.array_equal(cast, array):
            return cast
    raise ValueError(
        f"Invalid value for argument `inputs`. Expected numbers that "
        f"{source.dtype} holds (input '{source.name}'). Received: an array of "
        f"{array.dtype.name}"
    )


def as_the_model_takes(model: keras.Model, arrays: Sequence[np.ndarray]) -> Any:
    """A flat list of arrays, in the structure of the model's inputs."""
    structure = input_structure(model)
    if structure is None:
        return arrays[0]
    return keras.tree.pack_sequence_as(structure, list(arrays))


def predict(
    model: keras.Model, arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Returns a Keras model's outputs for a batch, as a flat list."""
    batch = as_the_model_takes(model, arrays)
    outputs = model.predict(batch, batch_size=len(arrays[0]), verbose=0)
    return [np.asarray(output) for output in keras.tree.flatten(outputs)]
