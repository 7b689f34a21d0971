from .errors import UnsupportedLayerError as UnsupportedLayerError
from .network import Network as Network
from .network import load as load
from .processor import levels as levels
