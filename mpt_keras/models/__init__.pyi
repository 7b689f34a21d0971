from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras

from mpt_keras.sparsity_rules import Rule

class _Network(Protocol):
    def __call__(
        self,
        *,
        sparsity: Rule = ...,
        binarize: bool = ...,
        binary_activations: bool | str | Callable[..., Any] = ...,
        trained_batch_norm: bool = ...,
        width: float = ...,
        kernel_initializer: str | Callable[..., Any] = ...,
        scale_fan: str | None = ...,
        regularizer: str | Callable[..., Any] | None = ...,
        masked: bool = ...,
        first_layer_masked: bool = ...,
        last_layer_masked: bool = ...,
        seed: int | None = ...,
        kernel_seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        classes: int = ...,
        input_shape: tuple[int, ...] = ...,
        name: str | None = ...,
        **shape: Any,
    ) -> keras.Model: ...

def conv_net(stages: int, **options: Any) -> keras.Model: ...
def dense_net(hidden: Sequence[int], **options: Any) -> keras.Model: ...
def residual_net(blocks: Sequence[int], **options: Any) -> keras.Model: ...

conv2: _Network
conv4: _Network
conv6: _Network
conv8: _Network
imagenet_resnet101: _Network
imagenet_resnet18: _Network
imagenet_resnet34: _Network
imagenet_resnet50: _Network
imagenet_wide_resnet101_2: _Network
imagenet_wide_resnet18_2: _Network
imagenet_wide_resnet18_3: _Network
imagenet_wide_resnet34_2: _Network
imagenet_wide_resnet34_3: _Network
imagenet_wide_resnet50_2: _Network
lenet_300_100: _Network
resnet101: _Network
resnet110: _Network
resnet18: _Network
resnet20: _Network
resnet32: _Network
resnet34: _Network
resnet44: _Network
resnet50: _Network
resnet56: _Network
vgg_small: _Network
wide_resnet18_2: _Network
wide_resnet18_3: _Network
