"""One frozen kernel with its scores: what a masked layer has one or two of."""

import math

from keras import ops

from mpt_keras import masking, selection, value_checks


class MaskedKernel:
    """One frozen kernel with its scores and its sparsity.

    Holds the layer's variables, no others. The current sparsity is a
    variable, so that a compiled step sees it change; the exact number pruned
    stands beside it, because float32 cannot tell one weight in ten million.
    """

    def __init__(self, layer_name, kernel, scores, sparsity, pruned, binarize):
        self.layer_name = layer_name
        self.kernel = kernel
        self.scores = scores
        self.sparsity = sparsity
        self.pruned = pruned
        self.binarize = binarize

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.kernel.shape)

    def set_sparsity(self, sparsity):
        """Prunes `floor(sparsity * size)` weights from now on."""
        pruned = selection.pruned_count(sparsity, self.size)
        self.sparsity.assign(sparsity)
        self.pruned.assign(pruned)

    def set_kept(self, kept):
        """Keeps exactly `kept` weights from now on, a scalar tensor."""
        pruned = self.size - kept
        self.sparsity.assign(ops.cast(pruned, "float32") / self.size)
        self.pruned.assign(ops.cast(pruned, self.pruned.dtype))

    def kept(self):
        """Number of weights kept, a scalar int32 tensor."""
        return self.size - selection.traced_pruned_count(
            self.sparsity, self.pruned, self.size
        )

    def mask(self):
        """Boolean tensor, True at the weights kept."""
        return selection.top_mask(masking.as_tensor(self.scores), self.kept())

    def gain(self):
        """Scalar float32 tensor: mean `|w|` of the weights kept, or 1."""
        if not self.binarize:
            return ops.ones((), "float32")
        return masking.gain(masking.as_tensor(self.kernel), self.mask())

    def effective(self):
        """The kernel that the layer computes with; gradient to the scores."""
        return masking.masked_kernel(
            self.scores, self.kernel, self.kept(), self.binarize
        )

    def check_scores(self):
        """Raises `ValueError` naming the layer if a score is NaN."""
        value_checks.check_no_nan(self.scores, f" in layer '{self.layer_name}'")
