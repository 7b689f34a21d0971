"""Iterative weight recycling and iterative randomisation."""

import numbers

import numpy as np
from keras import ops

from mpt_keras import weight_recycling
from mpt_keras.callbacks.batch_count import BatchCountingCallback
from mpt_keras.callbacks.masked_model_callback import (
    Layers,
    MaskedModelCallback,
)
from mpt_keras.initial_values import reseeded
from mpt_keras.seeds import check_seed, derived_seed


class WeightRecycling(MaskedModelCallback, BatchCountingCallback):
    """Replaces unimportant random weights while the scores train.

    Before an epoch that follows on a multiple of `every` epochs (or before
    every `every`-th step), in every masked layer by itself: the weights of
    lowest `abs(score)` become copies of those of highest, rank by rank, or
    pruned weights are drawn anew; see `mpt_keras.weight_recycling`. Scores, the
    optimizer's state and batch norms stay as they are. It makes up for random
    networks that are narrow or pruned far.

    As in the authors' code, nothing is replaced after epoch 0 nor after the
    last one, and an epoch is evaluated and saved before it is. Works with
    biprop and edge-popup layers and continues in a resumed run. Two of them
    with half the fraction each, `"random"` first, are the authors' hybrid.

    Weights that are pruned or kept for ever (`frozen_pruned`, `frozen_kept`)
    stay as they are; the fraction is that of the others.

    Afterwards a kernel is no longer what its seed gives: seed and mask are
    not the whole ticket any more. Models, checkpoints and `freeze` are right,
    because they hold the kernels.

    Args:
        fraction: Number `r` in (0, 0.5], the fraction of each layer's weights
            that are replaced, exactly `floor(r * n)` of `n`. Where it is
            more than the fraction pruned, kept weights are replaced as well.
            With `source="random"` a probability in (0, 1].
        every: Positive integer, in epochs or steps. Published: 0.2 every 10
            epochs of 250 for biprop, 0.1 every 3 for edge-popup; IteRand 0.1
            every 300 steps.
        source: `"highest"`; `"next_lowest"`, the ablation, which copies the
            next least important weights; or `"random"`, iterative
            randomisation: each pruned weight is drawn anew with probability
            `fraction`, by the layer's initializer.
        per: `"epoch"` or `"step"`: what `every` counts. A step is a batch.
        after: Integer, the last epoch (or step) after which nothing is
            replaced yet, for a warm-up.
        seed: Integer, or None to draw one: of the draws of `"random"`.
        layers: None for every masked layer that trains; or layers, names or
            patterns such as `"stage4_*"`.

    Raises:
        ValueError: If an argument is invalid, the model holds no masked
            layer, or, for `"random"`, an initializer has no seed to vary.

    Example:

    >>> callback = mpt_keras.callbacks.WeightRecycling(0.2, every=10)
    >>> history = model.fit(images, labels, callbacks=[callback], verbose=0)

    Reference:
        Gorbett and Whitley, "Randomly Initialized Subnetworks with Iterative
        Weight Recycling", 2023; Chijiwa et al., NeurIPS 2021 (`"random"`).
    """

    def __init__(
        self,
        fraction: float = 0.2,
        every: int = 10,
        source: str = "highest",
        per: str = "epoch",
        after: int = 0,
        seed: int | None = None,
        layers: Layers = None,
    ) -> None:
        super().__init__(layers)
        self.fraction = weight_recycling.check_fraction(fraction, source)
        self.source = source
        if per not in ("epoch", "step"):
            raise ValueError(
                "Invalid value for argument `per`. Expected 'epoch' or "
                f"'step'. Received: per={per!r}"
            )
        self.per = per
        self.every = _count("every", every, 1)
        self.after = _count("after", after, 0)
        self.seed = check_seed(seed)

    def set_model(self, model):
        super().set_model(model)
        if self.source == "random":
            for layer in self.chosen_layers:
                for name in layer.kernel_initializers.values():
                    where = f" (layer '{layer.name}')"
                    reseeded(getattr(layer, name), 0, where)  # or an error

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self.per == "epoch" and epoch > 0:
            self._replace_at(epoch - 1)

    def on_train_batch_begin(self, batch, logs=None):
        if self.per == "step":
            first = self.batches_before_epoch + batch
            last = first + getattr(self.model, "steps_per_execution", 1)
            # The multiple that comes while these steps are executed.
            time = last // self.every * self.every
            if time > first:
                self._replace_at(time)

    def _replace_at(self, time):
        if time > self.after and time % self.every == 0:
            self._replace(time)

    def _replace(self, time):
        for number, layer in enumerate(self.chosen_layers):
            layer.check_scores()
            kernels = zip(
                layer.kernel_initializers, layer.masked_kernels, strict=True
            )
            for stream, (name, masked) in enumerate(kernels):
                kernel = ops.convert_to_numpy(masked.kernel)
                if self.source == "random":
                    seed = (self.seed, time, number, stream)
                    new = self._redrawn(layer, name, masked, kernel, seed)
                else:
                    scores = ops.convert_to_numpy(masked.scores)
                    scores = scores.astype("float32")
                    # As a vector, of the weights that are not frozen alone.
                    free = masked.free()
                    free = ... if free is None else free
                    new = np.array(kernel)
                    new[free] = weight_recycling.recycled(
                        kernel[free], scores[free], self.fraction, self.source
                    )
                masked.kernel.assign(new)

    def _redrawn(self, layer, name, masked, kernel, seed):
        draw = layer.initializer_with_seed(name, derived_seed(*seed))
        drawn = ops.convert_to_numpy(draw(kernel.shape, masked.kernel.dtype))
        mask = ops.convert_to_numpy(masked.mask())
        free = masked.free()
        if free is not None:
            mask = mask | ~free  # stay as well
        return weight_recycling.redrawn(
            kernel, mask, self.fraction, drawn, seed
        )


def _count(name, value, lowest):
    is_integer = isinstance(value, numbers.Integral)
    if not is_integer or isinstance(value, bool) or value < lowest:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected an integer from "
            f"{lowest} on. Received: {name}={value!r}"
        )
    return int(value)
