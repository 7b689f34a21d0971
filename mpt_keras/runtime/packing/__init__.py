"""Operations of a plan, packed: kernels, layouts and tables for each."""

from mpt_keras.runtime.operations import (
    SIGN,
    Concatenate,
    Convolution,
    Elementwise,
    Gather,
    Merge,
    Operation,
    Plan,
    Pool,
    Threshold,
)
from mpt_keras.runtime.packing import floats, signs
from mpt_keras.runtime.program import Builder, Program


def pack(plan: Plan, images: int = 1) -> Program:
    """Finds kernels, layouts and tables for a plan.

    Args:
        plan: `Plan`, fused.
        images: How many images one run takes: 1, or a multiple of 64.

    Returns:
        `Program`.
    """
    layouts = signs.layouts(plan, images)
    builder = Builder(plan, images, layouts, signs.convert)
    for operation in plan.operations:
        family = signs if _is_of_signs(operation) else floats
        family.pack(operation, builder)
    return builder.program()


def _is_of_signs(operation: Operation) -> bool:
    """Whether bits go in, and no floats have to be made of them."""
    kinds = {value.kind for value in operation.inputs}
    match operation:
        case Threshold():
            return True
        case Convolution():
            return kinds == {SIGN} and operation.is_ternary
        case Pool() | Concatenate() | Gather():
            return kinds == {SIGN}
        case Elementwise() | Merge():
            return SIGN in kinds | {operation.output.kind}
    return False
