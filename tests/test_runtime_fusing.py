"""Fused plans compute what the plain ones do, to the bit."""

import numpy as np
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras.runtime import reference
from mpt_keras.runtime.fusing import fuse
from mpt_keras.runtime.operations import (
    FLOAT,
    SIGN,
    Convolution,
    Elementwise,
    Merge,
    Plan,
    Pool,
    Rectifier,
    Steps,
    Threshold,
    Value,
    Window,
)

_INPUT = Value((3, 6, 5))


def plan_of(operations):
    output = operations[-1].output
    return Plan(
        "network",
        _INPUT,
        output,
        (6, 5, 3),
        (1,),
        False,
        False,
        tuple(operations),
    )


class Chain:
    """Operations one behind another."""

    def __init__(self, rng):
        self.rng = rng
        self.value = _INPUT
        self.operations = []

    def add(self, kind, shape=None, of=FLOAT, **fields):
        output = Value(shape or self.value.shape, of)
        self.operations.append(kind("layer", (self.value,), output, **fields))
        self.value = output

    def sign(self):
        self.add(Elementwise, of=SIGN, steps=Steps())

    def convolution(self, filters, sparsity=0.5):
        channels, rows, columns = self.value.shape
        kernel = self.rng.choice([-1, 1], (3, 3, channels, filters))
        kernel[self.rng.random(kernel.shape) < sparsity] = 0
        self.add(
            Convolution,
            (filters, rows, columns),
            kernel=kernel.astype("int8"),
            gain=float(self.rng.choice([0.37, 1.0, 0.01])),
            window=Window((3, 3), before=(1, 1)),
        )

    def norm(self, scale=True, offset=True):
        channels = self.value.shape[0]
        numbers = self.rng.normal(0, 1, (2, channels)).round(1)
        scale, offset = numbers.astype("float32") * [[scale], [offset]]
        self.add(
            Elementwise,
            steps=Steps(scale.astype("float32"), offset.astype("float32")),
        )

    def rectify(self, **fields):
        self.add(Elementwise, steps=Steps(rectifier=Rectifier(**fields)))

    def pool(self):
        channels, rows, columns = self.value.shape
        self.add(
            Pool,
            (channels, rows // 2, columns // 2),
            window=Window((2, 2), (2, 2)),
        )

    def plan(self):
        return plan_of(self.operations)


@settings(deadline=None, max_examples=examples(100))
@given(
    st.integers(0, 2**32),
    st.lists(
        st.sampled_from(["norm", "pool", "rectify", "leak", "high"]), max_size=5
    ),
    st.floats(0, 0.99),
)
def test_thresholds_are_the_float_expression(seed, steps, sparsity):
    chain = Chain(np.random.default_rng(seed))
    chain.sign()
    chain.convolution(8, sparsity)
    for step in steps:
        match step:
            case "norm":
                chain.norm()
            case "pool" if min(chain.value.shape[1:]) > 1:
                chain.pool()
            case "rectify":
                chain.rectify()
            case "leak":
                chain.rectify(slope=0.5)
            case "high":
                chain.rectify(threshold=0.25, high=0.75)
    chain.sign()
    chain.add(Elementwise, steps=Steps())
    plan = chain.plan()
    fused = fuse(plan)
    images = chain.rng.normal(0, 1, _INPUT.shape).astype("float32")
    np.testing.assert_array_equal(
        reference.run(plan, images), reference.run(fused, images)
    )


def kinds(plan):
    return [type(operation) for operation in plan.operations]


def test_pools_of_counts_become_pools_of_signs():
    chain = Chain(np.random.default_rng(0))
    chain.sign()
    chain.convolution(8)
    chain.pool()
    chain.norm()
    chain.rectify(slope=0.1)
    chain.sign()
    chain.convolution(4)
    chain.norm()
    plan = chain.plan()
    fused = fuse(plan)
    assert kinds(fused) == [Elementwise, Threshold, Pool, Convolution]
    assert fused.operations[2].inverted.any()
    images = chain.rng.normal(0, 1, _INPUT.shape).astype("float32")
    np.testing.assert_array_equal(
        reference.run(plan, images), reference.run(fused, images)
    )


def test_what_two_need_is_not_swallowed():
    chain = Chain(np.random.default_rng(0))
    chain.sign()
    chain.convolution(4)
    counts = chain.value
    chain.norm()
    chain.sign()
    output = Value(counts.shape)
    chain.operations.append(Merge("add", (counts, chain.value), output, "add"))
    fused = fuse(chain.plan())
    assert kinds(fused) == [Elementwise, Convolution, Elementwise, Merge]


def test_what_is_not_monotone_stays_float():
    for fields in ({"slope": -0.5}, {"threshold": -1.0}):
        chain = Chain(np.random.default_rng(0))
        chain.sign()
        chain.convolution(4)
        chain.rectify(**fields)
        chain.sign()
        chain.add(Elementwise, steps=Steps())
        assert Threshold not in kinds(fuse(chain.plan()))


def test_steps_keep_their_order():
    chain = Chain(np.random.default_rng(0))
    chain.rectify()
    chain.norm()
    assert kinds(fuse(chain.plan())) == [Elementwise, Elementwise]
    chain = Chain(np.random.default_rng(0))
    chain.norm()
    chain.rectify()
    chain.sign()
    chain.add(Elementwise, steps=Steps())
    assert kinds(fuse(chain.plan())) == [Elementwise, Elementwise]


def test_pools_do_not_compute_what_the_next_leaves_out():
    chain = Chain(np.random.default_rng(0))
    channels, rows, columns = chain.value.shape
    window = Window((3, 3), before=(1, 1))
    chain.add(Pool, window=window)
    half = (channels, -(-rows // 2), -(-columns // 2))
    chain.add(Pool, half, window=Window(strides=(2, 2)))
    plan = chain.plan()
    fused = fuse(plan)
    assert kinds(fused) == [Pool]
    images = chain.rng.normal(0, 1, _INPUT.shape).astype("float32")
    np.testing.assert_array_equal(
        reference.run(plan, images), reference.run(fused, images)
    )
