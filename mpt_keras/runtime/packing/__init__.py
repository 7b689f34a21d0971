"""Operations of a plan, packed: kernels, layouts and tables for each."""

from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.operations import Convolution, Plan, Threshold
from mpt_keras.runtime.packing import floats, signs
from mpt_keras.runtime.program import Builder, Program

_CHANNELS = 2**16  # tables number them in 16 bits
_ARENA = 2**31  # and kernels the bytes of the arena in 32


def pack(
    plan: Plan,
    images: int = 1,
    counts_bits: bool = True,
    small: bool = False,
) -> Program:
    """Finds kernels, layouts and tables for a plan.

    Args:
        plan: `Plan`, fused.
        images: How many images one run takes: 1, or a multiple of 64.
        counts_bits: Whether the processor that it is for counts the bits of a
            vector in one instruction. It changes what is fast, not what is
            computed.
        small: Whether to look for small tables, not for speed.

    Returns:
        `Program`.

    Raises:
        UnsupportedLayerError: If a layer is too large.
    """
    for operation in plan.operations:
        channels = max(
            value.shape[0] for value in (*operation.inputs, operation.output)
        )
        if channels > _CHANNELS and isinstance(
            operation, (Convolution, Threshold)
        ):
            raise UnsupportedLayerError(
                f"Layer '{operation.layer}' has {channels} channels or units. "
                f"The runtime computes up to {_CHANNELS}; export the model: "
                "mpt_keras.export(model, path, format='onnx')."
            )
    layouts = signs.layouts(plan, images, counts_bits, small)
    builder = Builder(plan, images, layouts, signs.convert)
    for operation in plan.operations:
        if signs.packs(operation):
            signs.pack(operation, builder, counts_bits, small)
        else:
            floats.pack(operation, builder)
    program = builder.program()
    if program.arena_bytes >= _ARENA:
        raise UnsupportedLayerError(
            f"Network '{plan.name}' takes {program.arena_bytes:,} bytes for "
            f"what it computes of {images} images at once. The runtime has up "
            f"to {_ARENA:,}; export the model: mpt_keras.export(model, path, "
            "format='onnx')."
        )
    return program
