"""Tickets that run on bits: arrays in, arrays out, without Keras.

`load` reads a ticket and makes it ready to run. The way from the file to the
result has three parts: `lowering` and `fusing` make a plan of typed operations
of a network, `packing` finds kernels, layouts and tables for each, and
`network` runs the kernels, which `library` compiles where that was not done.
`reference` computes every operation with NumPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
