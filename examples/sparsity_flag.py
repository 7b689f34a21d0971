"""The flag that the searches for masks share, and other examples lack."""

from absl import flags

flags.DEFINE_float("sparsity", 0.5, "Fraction of weights pruned, in [0, 1).")
flags.register_validator(
    "sparsity", lambda value: 0.0 <= value < 1.0, "Expected a number in [0, 1)."
)
