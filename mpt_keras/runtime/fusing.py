"""A plan of fewer, larger operations that computes the same.

- Signs of counted signs become integer thresholds. What stands between a
  convolution of signs and the next sign is a function `h` of the integer `n`
  that the convolution counts, monotone in every channel, also in float32,
  because rounding is. So `sign(h(n))` is `n >= t`, or `n <= t` where `h`
  falls, and `t` is found by evaluating `h` as it stands, in float32, at
  integers: no bit can differ. A max pool in between becomes one of signs.
- Steps move into the operation in front of them.
- A pool does not compute what the next one leaves out.
"""

import collections
import dataclasses

import numpy as np

from mpt_keras.runtime import reference
from mpt_keras.runtime.operations import (
    FLOAT,
    SIGN,
    Convolution,
    Elementwise,
    Merge,
    Operation,
    Plan,
    Pool,
    Steps,
    Threshold,
    Value,
)


def fuse(plan: Plan) -> Plan:
    """Returns a plan that computes the same with fewer operations.

    Args:
        plan: `Plan` as it was lowered.
    """
    operations = list(plan.operations)
    for fuse_one in (_sparser_pool, _threshold, _with_steps):
        operations = _rewritten(operations, plan.output, fuse_one)
    return dataclasses.replace(plan, operations=tuple(operations))


class _Uses:
    """Who makes a value, and who uses it."""

    def __init__(self, operations, output):
        self.maker = {op.output: op for op in operations}
        self.count = collections.Counter(
            value for op in operations for value in op.inputs
        )
        self.count[output] += 1

    def maker_for_one(self, value: Value) -> Operation | None:
        """Who makes a value that is used once."""
        return self.maker.get(value) if self.count[value] == 1 else None


def _rewritten(operations, output, fuse_one):
    """Offers each operation to a rule, which swallows those before it.

    The rule returns what it swallows, and what takes their place.
    """
    done: list[Operation] = []
    for operation in operations:
        uses = _Uses([*done, operation], output)
        # What comes later may use a value once more.
        uses.count.update(
            value
            for later in operations[operations.index(operation) + 1 :]
            for value in later.inputs
        )
        found = fuse_one(operation, uses)
        if found is None:
            done.append(operation)
            continue
        swallowed, instead = found
        done = [one for one in done if one not in swallowed]
        done.extend(instead)
    return done


def _sparser_pool(operation, uses):
    """A pool that only picks moves its strides into the one in front."""
    if not isinstance(operation, Pool) or operation.window.size != (1, 1):
        return None
    before = uses.maker_for_one(operation.inputs[0])
    if not isinstance(before, Pool) or operation.window.before != (0, 0):
        return None
    strides = tuple(
        a * b
        for a, b in zip(
            before.window.strides, operation.window.strides, strict=True
        )
    )
    window = dataclasses.replace(before.window, strides=strides)
    pool = dataclasses.replace(before, window=window, output=operation.output)
    return [before], [pool]


def _with_steps(operation, uses):
    """Steps move into the operation in front of them."""
    if not isinstance(operation, Elementwise):
        return None
    before = uses.maker_for_one(operation.inputs[0])
    if not isinstance(before, (Convolution, Merge, Elementwise)):
        return None
    if before.output.kind != FLOAT:
        return None
    steps = _joined(before.steps, operation.steps)
    if steps is None:
        return None
    joined = dataclasses.replace(before, steps=steps, output=operation.output)
    return [before], [joined]


def _joined(first: Steps, second: Steps) -> Steps | None:
    """Both in one, if their order allows it."""
    names = [field.name for field in dataclasses.fields(Steps)]
    fields = [
        [getattr(steps, name) for name in names] for steps in (first, second)
    ]
    last = max(
        (i for i, field in enumerate(fields[0]) if field is not None),
        default=-1,
    )
    begin = min(
        (i for i, field in enumerate(fields[1]) if field is not None),
        default=len(names),
    )
    if last >= begin:
        return None
    return Steps(
        *(a if a is not None else b for a, b in zip(*fields, strict=True))
    )


def _threshold(operation, uses):
    """A sign of counted signs becomes a comparison of integers."""
    if operation.output.kind != SIGN or not isinstance(operation, Elementwise):
        return None
    chain = [operation]
    while not isinstance(chain[0], Convolution):
        before = uses.maker_for_one(chain[0].inputs[0])
        if not isinstance(before, (Convolution, Elementwise, Pool)):
            return None
        if before.output.kind != FLOAT or getattr(before, "mean", False):
            return None
        chain.insert(0, before)
    counts, *rest = chain
    if counts.inputs[0].kind != SIGN or not counts.is_ternary:
        return None
    if not 0 <= counts.gain < np.inf:
        return None
    steps = [one.steps for one in (counts, *rest) if not isinstance(one, Pool)]
    if not all(map(_is_monotone, steps)):
        return None
    rises = [_rises(counts.steps, counts.output)]
    at_pools = []
    for one in rest:
        if isinstance(one, Pool):
            at_pools.append(rises[-1])
        else:
            rises.append(rises[-1] == _rises(one.steps, counts.output))
    if any((at != at_pools[0]).any() for at in at_pools):
        return None
    # Where a pool takes the largest of what falls, it takes the least count.
    takes_least = ~at_pools[0] if at_pools else ~rises[-1]
    return chain[:-1], _compared(chain, steps, takes_least, rises[-1])


def _compared(chain, steps, negated, rises):
    """`Threshold`, and the pools behind it.

    In channels that are `negated` the convolution counts `-n`, and the pools
    take the largest of that. Then `h` rises with it or falls, and where it
    falls, the sign is that of "not yet there".
    """
    counts, *rest = chain
    pools = [one for one in rest if isinstance(one, Pool)]
    falls = rises == negated
    sign = np.where(negated, -1, 1).astype("int64")

    def is_positive(n):
        values = (sign * n).astype("float32") * np.float32(counts.gain)
        values = values[:, None, None]
        for one in steps[:-1]:
            values = reference.apply_steps(one, values, counts.output)
        values = reference.apply_steps(steps[-1], values, chain[-1].output)
        return values.ravel() > 0

    kept = np.count_nonzero(counts.kernel, axis=(0, 1, 2))
    thresholds = _first(lambda n: is_positive(n) != falls, kept)
    kernel = counts.kernel * sign.astype("int8")
    shapes = [counts.output.shape, *(pool.output.shape for pool in pools)]
    values = [Value(shape, SIGN) for shape in shapes[:-1]]
    values.append(chain[-1].output)
    made = [
        Threshold(
            counts.layer,
            counts.inputs,
            values[0],
            kernel,
            counts.window,
            counts.groups,
            thresholds,
        )
    ]
    for number, pool in enumerate(pools):
        is_last = number == len(pools) - 1
        made.append(
            Pool(
                pool.layer,
                (values[number],),
                values[number + 1],
                pool.window,
                inverted=falls if is_last and falls.any() else None,
            )
        )
    return made


def _first(holds, largest):
    """The least integer from `-largest` on at which something holds.

    Args:
        holds: Function of an integer array, which holds from some integer on.
        largest: Integer array.

    Returns:
        int32 array, at most `largest + 1`.
    """
    low, high = -largest.astype("int64"), largest.astype("int64") + 1
    while (low < high).any():
        middle = (low + high) >> 1
        found = holds(middle)
        high = np.where(found & (low < high), middle, high)
        low = np.where(~found & (low < high), middle + 1, low)
    return low.astype("int32")


def _is_monotone(steps):
    numbers = [steps.scale, steps.offset]
    if steps.rectifier is not None:
        slope = np.asarray(steps.rectifier.slope)
        if (slope < 0).any() or not np.isfinite(slope).all():
            return False
        if steps.rectifier.threshold > steps.rectifier.high:
            return False
        # A jump down at the threshold.
        if steps.rectifier.threshold < 0:
            return False
    return all(one is None or np.isfinite(one).all() for one in numbers)


def _rises(steps, output):
    """Of each channel, whether steps keep the order of numbers."""
    if steps.scale is None:
        return np.ones(output.shape[0], bool)
    return np.broadcast_to(steps.scale >= 0, output.shape[0])
