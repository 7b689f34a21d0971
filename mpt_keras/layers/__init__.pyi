from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from mpt_keras.layers.masked_kernel import MaskedKernel

_Size = int | tuple[int, ...]
_Activation = str | Callable[..., Any] | None
_Initializer = str | Callable[..., Any] | dict[str, Any] | None
_Regularizer = str | Callable[..., Any] | dict[str, Any] | None
_Constraint = str | Callable[..., Any] | dict[str, Any] | None
_Quantizer = str | Callable[..., Any] | dict[str, Any] | None
_Mask = np.ndarray[Any, np.dtype[np.bool_]]

class MaskedLayer:
    kernel_initializers: ClassVar[dict[str, str]]
    seed: int
    binarize: bool
    input_quantizer: Callable[..., Any] | None
    sparsity: Any
    @property
    def frozen_pruned(self) -> Any: ...
    @property
    def frozen_kept(self) -> Any: ...
    @property
    def scores(self) -> Any: ...
    @property
    def masked_kernels(self) -> tuple[MaskedKernel, ...]: ...
    def mask(self) -> Any: ...
    def gain(self) -> Any: ...
    def effective_kernel(self) -> Any: ...
    def set_mask(self, mask: _Mask | Sequence[_Mask]) -> None: ...
    def check_scores(self) -> None: ...
    def fan_in(
        self, kernel_name: str, kernel_shape: tuple[int, ...]
    ) -> float: ...
    def apply_kernel(self, inputs: Any, *kernels: Any) -> Any: ...

class MPTConv1D(MaskedLayer, keras.layers.Conv1D):
    sparsity: float
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        groups: int = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTConv2D(MaskedLayer, keras.layers.Conv2D):
    sparsity: float
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        groups: int = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTConv3D(MaskedLayer, keras.layers.Conv3D):
    sparsity: float
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        groups: int = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTDepthwiseConv1D(MaskedLayer, keras.layers.DepthwiseConv1D):
    sparsity: float
    def __init__(
        self,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        depth_multiplier: int = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        depthwise_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        depthwise_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        depthwise_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTDepthwiseConv2D(MaskedLayer, keras.layers.DepthwiseConv2D):
    sparsity: float
    def __init__(
        self,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        depth_multiplier: int = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        depthwise_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        depthwise_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        depthwise_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTSeparableConv1D(MaskedLayer, keras.layers.SeparableConv1D):
    sparsity: tuple[float, float]
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        depth_multiplier: int = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        depthwise_initializer: _Initializer = ...,
        pointwise_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        depthwise_regularizer: _Regularizer = ...,
        pointwise_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        depthwise_constraint: _Constraint = ...,
        pointwise_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float | Sequence[float] = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float | Sequence[float] = ...,
        frozen_kept: float | Sequence[float] = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTSeparableConv2D(MaskedLayer, keras.layers.SeparableConv2D):
    sparsity: tuple[float, float]
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        depth_multiplier: int = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        depthwise_initializer: _Initializer = ...,
        pointwise_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        depthwise_regularizer: _Regularizer = ...,
        pointwise_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        depthwise_constraint: _Constraint = ...,
        pointwise_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float | Sequence[float] = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float | Sequence[float] = ...,
        frozen_kept: float | Sequence[float] = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTConv1DTranspose(MaskedLayer, keras.layers.Conv1DTranspose):
    sparsity: float
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        output_padding: _Size | None = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTConv2DTranspose(MaskedLayer, keras.layers.Conv2DTranspose):
    sparsity: float
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        output_padding: _Size | None = ...,
        data_format: str | None = ...,
        dilation_rate: _Size = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTConv3DTranspose(MaskedLayer, keras.layers.Conv3DTranspose):
    sparsity: float
    def __init__(
        self,
        filters: int,
        kernel_size: _Size,
        strides: _Size = ...,
        padding: str = ...,
        data_format: str | None = ...,
        output_padding: _Size | None = ...,
        dilation_rate: _Size = ...,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTDense(MaskedLayer, keras.layers.Dense):
    sparsity: float
    def __init__(
        self,
        units: int,
        activation: _Activation = ...,
        use_bias: bool = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTEmbedding(MaskedLayer, keras.layers.Embedding):
    sparsity: float
    @property
    def kernel(self) -> Any: ...
    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: _Initializer = ...,
        embeddings_regularizer: _Regularizer = ...,
        embeddings_constraint: _Constraint = ...,
        mask_zero: bool = ...,
        weights: Any = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTEinsumDense(MaskedLayer, keras.layers.EinsumDense):
    sparsity: float
    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: _Activation = ...,
        bias_axes: str | None = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        sparsity: float = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        activity_regularizer: _Regularizer = ...,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTMultiHeadAttention(keras.layers.MultiHeadAttention):
    sparsity: Any
    binarize: bool
    seed: int
    input_quantizer: Callable[..., Any] | None
    @property
    def projections(self) -> dict[str, MPTEinsumDense]: ...
    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = ...,
        dropout: float = ...,
        use_bias: bool = ...,
        output_shape: int | Sequence[int] | None = ...,
        attention_axes: int | Sequence[int] | None = ...,
        sliding_window: int | None = ...,
        flash_attention: bool | None = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        use_gate: bool = ...,
        sparsity: float | dict[str, float] = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

class MPTGroupedQueryAttention(keras.layers.GroupQueryAttention):
    sparsity: Any
    binarize: bool
    seed: int
    input_quantizer: Callable[..., Any] | None
    @property
    def projections(self) -> dict[str, MPTEinsumDense]: ...
    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = ...,
        use_bias: bool = ...,
        sliding_window: int | None = ...,
        flash_attention: bool | None = ...,
        kernel_initializer: _Initializer = ...,
        bias_initializer: _Initializer = ...,
        kernel_regularizer: _Regularizer = ...,
        bias_regularizer: _Regularizer = ...,
        activity_regularizer: _Regularizer = ...,
        kernel_constraint: _Constraint = ...,
        bias_constraint: _Constraint = ...,
        use_gate: bool = ...,
        sparsity: float | dict[str, float] = ...,
        binarize: bool = ...,
        input_quantizer: _Quantizer = ...,
        scores_initializer: _Initializer = ...,
        scores_regularizer: _Regularizer = ...,
        seed: int | None = ...,
        frozen_pruned: float = ...,
        frozen_kept: float = ...,
        *,
        name: str | None = ...,
        trainable: bool = ...,
        dtype: Any = ...,
        autocast: bool = ...,
    ) -> None: ...

def masked_layers(model: keras.layers.Layer) -> list[Any]: ...
