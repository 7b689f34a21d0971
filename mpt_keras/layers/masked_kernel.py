"""One frozen kernel with its scores: what a masked layer has one or two of."""

import math
from typing import Any

import numpy as np
from keras import ops

from mpt_keras import (
    compilation,
    frozen_order,
    masking,
    selection,
    sums,
    value_checks,
)
from mpt_keras.sparsity import pruned_count


class MaskedKernel:
    """One frozen kernel with its scores and the number of weights pruned.

    Holds the layer's variables, no others. What is pruned is a variable, so
    that a compiled step sees it change.
    """

    def __init__(
        self,
        layer_name,
        kernel,
        scores,
        pruned,
        last_key,
        binarize,
        frozen=None,
        frozen_part=None,
    ):
        self.layer_name = layer_name
        self.kernel = kernel
        self.scores = scores
        self.pruned = pruned
        # Of the threshold in the last call, which is near that of this one,
        # and the same if the scores have not changed; or None.
        self.last_key = last_key
        self.binarize = binarize
        # int8, as of `FrozenPart.positions`, and that part; or None.
        self.frozen = frozen
        self.frozen_part = frozen_part

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.kernel.shape)

    @property
    def most_kept(self) -> int:
        """Number of weights that are kept at most."""
        return self.size - (self.frozen_part.pruned if self.frozen_part else 0)

    def check_sparsity(self, sparsity: float) -> int:
        """Returns `floor(sparsity * size)`, how many weights it prunes.

        Raises:
            ValueError: If the frozen part does not allow as many.
        """
        return check_pruned(
            pruned_count(sparsity, self.size),
            self.size,
            self.frozen_part,
            f"sparsity={sparsity} (layer '{self.layer_name}')",
        )

    def set_sparsity(self, sparsity: float) -> None:
        """Prunes `floor(sparsity * size)` weights from now on."""
        self.pruned.assign(self.check_sparsity(sparsity))

    def set_kept(self, kept: Any) -> None:
        """Keeps exactly `kept` weights from now on, a scalar tensor."""
        self.pruned.assign(ops.cast(self.size - kept, self.pruned.dtype))

    def kept(self) -> Any:
        """Number of weights kept, a scalar int32 tensor."""
        return self.size - ops.cast(self.pruned, "int32")

    def mask(self) -> Any:
        """Boolean tensor, True at the weights kept."""
        return selection.top_mask(self.compared_scores(), self.kept())

    def compared_scores(self, among_frozen: bool = False) -> Any:
        """Float tensor: those of largest magnitude are kept.

        Args:
            among_frozen: Whether they are to be compared with those of
                kernels that have frozen parts.
        """
        scores = masking.as_tensor(self.scores)
        if self.frozen is not None:
            return frozen_order.in_order(scores, ops.copy(self.frozen))
        return frozen_order.in_order(scores) if among_frozen else scores

    def free(self):
        """Boolean array, True at the weights that scores choose among.

        None if these are all.
        """
        if self.frozen is None:
            return None
        return np.asarray(ops.convert_to_numpy(self.frozen)) == 0

    def arrays(self):
        """Kernel, mask and gain in NumPy: the same bits, nothing compiled.

        Returns:
            Float32 array, Boolean array, NumPy float32 number.
        """
        kernel, scores = (
            np.asarray(ops.convert_to_numpy(variable), "float32")
            for variable in (self.kernel, self.scores)
        )
        kept = int(self.kept())
        mask = self._mask_of_array(scores, kept)
        gain = np.float32(1.0)
        if self.binarize:
            gain = sums.mean_kept(kernel, mask, np.float32(kept), np)
        return kernel, mask, gain

    def _mask_of_array(self, scores, kept):
        if self.frozen is None:
            return selection.top_mask_of_array(scores, kept)
        frozen = np.asarray(ops.convert_to_numpy(self.frozen))
        mask = frozen > 0
        kept -= self.frozen_part.kept
        if kept:
            free = frozen == 0
            magnitudes = np.minimum(np.abs(scores[free]), frozen_order.HIGHEST)
            mask[free] = selection.top_mask_of_array(magnitudes, kept)
        return mask

    def effective_array(self):
        """`effective` in NumPy, a float32 array."""
        kernel, mask, gain = self.arrays()
        if self.binarize:
            kernel = np.sign(kernel) * gain
        return np.where(mask, kernel, np.float32(0.0))

    def set_mask(self, mask):
        """Gives the largest magnitudes of the scores to the weights of a mask.

        The magnitudes stay what they are (up to 2**14), and so do the signs;
        they are dealt out anew, in their order among the weights kept and
        among the others.

        Args:
            mask: Boolean array of the kernel's shape with at least one True.
        """
        scores = ops.convert_to_numpy(self.scores)
        dealt = np.array(scores, "float32")
        free = slice(None) if self.frozen is None else self.free()
        dealt[free] = _scores_that_select(dealt[free], mask[free])
        self.scores.assign(dealt.astype(scores.dtype))
        self.pruned.assign(mask.size - int(np.count_nonzero(mask)))

    def checked_mask(self, mask):
        """Returns a mask as an array; raises `ValueError` unless it fits."""
        mask = np.asarray(mask)
        shape = tuple(self.kernel.shape)
        if mask.dtype != bool or mask.shape != shape:
            raise ValueError(
                "Invalid value for argument `mask`. Expected a boolean array "
                f"of the shape {shape}, True at the weights kept. Received: "
                f"{mask.dtype} of the shape {mask.shape} (layer "
                f"'{self.layer_name}')"
            )
        if not mask.any():
            raise ValueError(
                "Invalid value for argument `mask`. Expected at least one "
                "True, because a layer keeps one weight or more. Received: "
                f"none (layer '{self.layer_name}')"
            )
        if self.frozen is not None:
            frozen = np.asarray(ops.convert_to_numpy(self.frozen))
            contrary = int(
                np.count_nonzero(np.where(mask, frozen < 0, frozen > 0))
            )
            if contrary:
                raise ValueError(
                    "Invalid value for argument `mask`. Expected False at the "
                    f"{self.frozen_part.pruned} weights that are pruned for "
                    f"ever and True at the {self.frozen_part.kept} that are "
                    "kept for ever (frozen_pruned, frozen_kept). Received: "
                    f"{contrary} of them otherwise (layer "
                    f"'{self.layer_name}')"
                )
        return mask

    def gain(self):
        """Scalar float32 tensor: mean `|w|` of the weights kept, or 1."""
        if not self.binarize:
            return ops.ones((), "float32")
        return masking.gain(masking.as_tensor(self.kernel), self.mask())

    def effective(self):
        """The kernel that the layer computes with; gradient to the scores."""
        scores, kernel = map(masking.as_tensor, (self.scores, self.kernel))
        guess = self.last_key
        if guess is not None:
            guess = ops.cast(guess, "int32")
        masked, key = masking.masked_kernel_near(
            *(scores, kernel, self.kept(), self.binarize, guess),
            None if self.frozen is None else ops.copy(self.frozen),
        )
        if self.last_key is not None:
            self.last_key.assign(ops.cast(key, "int64"))
        return compilation.with_shape(masked, tuple(self.kernel.shape))

    def check_scores(self):
        """Raises `ValueError` naming the layer if a score is NaN."""
        value_checks.check_no_nan(self.scores, f" in layer '{self.layer_name}'")


def check_pruned(pruned, size, frozen_part, received):
    """Returns a number of weights pruned.

    Args:
        pruned: That number.
        size: Number of weights.
        frozen_part: `FrozenPart`, or None.
        received: Text for the error.

    Raises:
        ValueError: If the frozen part does not allow as many.
    """
    part = frozen_part
    if part is None or part.pruned <= pruned <= size - part.kept:
        return pruned
    raise ValueError(
        f"Invalid value for argument `sparsity`. Of {size} weights, "
        f"{part.pruned} are pruned and {part.kept} are kept for ever "
        "(frozen_pruned, frozen_kept). Expected a sparsity that prunes "
        f"between {part.pruned} and {size - part.kept} of them, from "
        f"{part.pruned / size:.6g} to {1 - part.kept / size:.6g}. Received: "
        f"{received}, which prunes {pruned}"
    )


def _scores_that_select(scores, mask):
    # A sixteenth more still fits every float type.
    magnitudes = np.minimum(np.abs(scores), 2.0**14)
    # Pruned weights first, each part in the order of its own magnitudes.
    order = np.lexsort((magnitudes.ravel(), mask.ravel()))
    dealt = np.empty(mask.size)
    dealt[order] = np.sort(magnitudes, axis=None)
    dealt = dealt.reshape(mask.shape)
    highest_pruned = dealt[~mask].max(initial=-1.0)
    if dealt[mask].min(initial=np.inf) == highest_pruned:
        # A tie would be broken by position. A sixteenth tells magnitudes
        # apart in every float type.
        apart = np.maximum(dealt * (1 + 2**-4), 2.0**-14)
        dealt = np.where(mask, apart, dealt)
    return np.where(scores < 0, -dealt, dealt)
