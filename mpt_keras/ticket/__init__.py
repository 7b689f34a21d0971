"""Tickets in files: a seed, masks, and what else a network needs.

Reading needs NumPy, safetensors and constriction, and no Keras.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
