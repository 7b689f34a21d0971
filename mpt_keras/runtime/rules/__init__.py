"""How calls of each kind of layer become operations."""

from mpt_keras.runtime.calls import Rule
from mpt_keras.runtime.rules import (
    activations,
    arithmetic,
    convolutions,
    normalization,
    pools,
    shapes,
    signs,
)

RULES: dict[str, Rule] = {
    **activations.RULES,
    **arithmetic.RULES,
    **convolutions.RULES,
    **normalization.RULES,
    **pools.RULES,
    **shapes.RULES,
    **signs.RULES,
}
