"""Lottery tickets with Keras: found, compared, shipped.

A multi-prize ticket is a sub-network of a randomly initialised network whose
weights are never trained, only pruned and binarised, and which is as accurate
as the trained network. The names below are the public interface.
"""

import importlib.metadata as _metadata

from mpt_keras import _environment

_environment.check_keras_3(_environment.import_keras().__version__)

# ruff: noqa: E402
from mpt_keras import analysis as analysis
from mpt_keras import callbacks as callbacks
from mpt_keras import checkpoints as checkpoints
from mpt_keras import config as config
from mpt_keras import initializers as initializers
from mpt_keras import larq as larq
from mpt_keras import losses as losses
from mpt_keras import lottery as lottery
from mpt_keras import masking as masking
from mpt_keras import models as models
from mpt_keras import quantizers as quantizers
from mpt_keras import replacement as replacement
from mpt_keras import schedules as schedules
from mpt_keras import selection as selection
from mpt_keras.conversion import freeze as freeze
from mpt_keras.layers import MPTConv1D as MPTConv1D
from mpt_keras.layers import MPTConv2D as MPTConv2D
from mpt_keras.layers import MPTConv2DTranspose as MPTConv2DTranspose
from mpt_keras.layers import MPTConv3D as MPTConv3D
from mpt_keras.layers import MPTDense as MPTDense
from mpt_keras.layers import MPTDepthwiseConv2D as MPTDepthwiseConv2D
from mpt_keras.layers import MPTSeparableConv2D as MPTSeparableConv2D
from mpt_keras.layers import masked_layers as masked_layers

try:
    __version__ = _metadata.version("mpt_keras")
except _metadata.PackageNotFoundError:  # run from a source tree
    __version__ = "0+source"
