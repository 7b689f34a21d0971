"""Operations of a plan, packed: kernels, layouts and tables for each."""

from mpt_keras.runtime.operations import Plan
from mpt_keras.runtime.packing import floats, signs
from mpt_keras.runtime.program import Builder, Program


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
    """
    layouts = signs.layouts(plan, images, counts_bits, small)
    builder = Builder(plan, images, layouts, signs.convert)
    for operation in plan.operations:
        if signs.packs(operation):
            signs.pack(operation, builder, counts_bits, small)
        else:
            floats.pack(operation, builder)
    return builder.program()
