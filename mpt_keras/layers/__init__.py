"""Masked layers: frozen random kernels, trainable scores."""

from mpt_keras.layers.convolutional import MPTConv1D as MPTConv1D
from mpt_keras.layers.convolutional import (
    MPTConv1DTranspose as MPTConv1DTranspose,
)
from mpt_keras.layers.convolutional import MPTConv2D as MPTConv2D
from mpt_keras.layers.convolutional import (
    MPTConv2DTranspose as MPTConv2DTranspose,
)
from mpt_keras.layers.convolutional import MPTConv3D as MPTConv3D
from mpt_keras.layers.convolutional import (
    MPTConv3DTranspose as MPTConv3DTranspose,
)
from mpt_keras.layers.convolutional import (
    MPTDepthwiseConv1D as MPTDepthwiseConv1D,
)
from mpt_keras.layers.convolutional import (
    MPTDepthwiseConv2D as MPTDepthwiseConv2D,
)
from mpt_keras.layers.convolutional import (
    MPTSeparableConv1D as MPTSeparableConv1D,
)
from mpt_keras.layers.convolutional import (
    MPTSeparableConv2D as MPTSeparableConv2D,
)
from mpt_keras.layers.dense import MPTDense as MPTDense
from mpt_keras.layers.embedding import MPTEmbedding as MPTEmbedding
from mpt_keras.layers.masked import MaskedLayer as MaskedLayer
from mpt_keras.layers.traversal import masked_layers as masked_layers
