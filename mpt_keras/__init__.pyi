from . import analysis as analysis
from . import callbacks as callbacks
from . import checkpoints as checkpoints
from . import config as config
from . import initializers as initializers
from . import larq as larq
from . import layers as layers
from . import losses as losses
from . import lottery as lottery
from . import masking as masking
from . import models as models
from . import quantizers as quantizers
from . import schedules as schedules
from . import selection as selection
from . import weight_recycling as weight_recycling
from .conversion import freeze as freeze
from .layers import MaskedLayer as MaskedLayer
from .layers import MPTConv1D as MPTConv1D
from .layers import MPTConv2D as MPTConv2D
from .layers import MPTConv2DTranspose as MPTConv2DTranspose
from .layers import MPTConv3D as MPTConv3D
from .layers import MPTDense as MPTDense
from .layers import MPTDepthwiseConv2D as MPTDepthwiseConv2D
from .layers import MPTSeparableConv2D as MPTSeparableConv2D
from .layers import masked_layers as masked_layers
from .transfer import transfer_weights as transfer_weights

__version__: str
