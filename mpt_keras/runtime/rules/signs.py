"""Signs of a bit: our quantizers, Larq's, and those of Keras' operations."""

from mpt_keras.runtime.calls import Rule, Unfinished
from mpt_keras.runtime.graph import in_order
from mpt_keras.runtime.tensors import Tensor


def _quantizer(call):
    return call.sign(call.tensor)


def _sign(call):
    """Keras' `sign`, which is 0 for 0; of one lifted off 0 it is a bit."""
    (one,) = call.inputs
    if isinstance(one, Unfinished):
        if one.what != "lifted sign":
            call.refuse(f"what it is called with, {one.what} of x,")
        return call.sign(one.of)
    return Unfinished("sign", one)


def _compared(what):
    def lower(call):
        x, other = call.args
        if not isinstance(x, Tensor) or isinstance(other, Tensor) or other != 0:
            call.refuse("a comparison with anything but 0")
        return Unfinished(what, x)

    return Rule(lower)


def _where(call):
    """The forms of a sign: by a comparison with 0, or of what is not NaN."""
    condition, yes, no = (*call.args, *in_order(call.kwargs))
    what = getattr(condition, "what", None)
    if what == "is NaN" and yes is condition.of and isinstance(no, Tensor):
        return no
    numbers = {"below 0": (-1, 1), "from 0": (1, -1)}.get(what)
    if numbers is None or isinstance(yes, Tensor) or (yes, no) != numbers:
        call.refuse("a choice that is no sign")
    return call.sign(condition.of)


_NAMES = ("ApproxSign", "SteSign", "SwishSign")

RULES = {
    **{
        f"mpt_keras>{name}": Rule(_quantizer, frozenset({"clip_value", "beta"}))
        for name in _NAMES
    },
    **{
        f"larq>{name}": Rule(_quantizer, frozenset({"clip_value", "beta"}))
        for name in _NAMES
    },
    "ops.Sign": Rule(_sign, takes_unfinished=True),
    "ops.Isnan": Rule(lambda call: Unfinished("is NaN", call.tensor)),
    "ops.Less": _compared("below 0"),
    "ops.GreaterEqual": _compared("from 0"),
    "ops.Where": Rule(_where, takes_unfinished=True),
}
