"""Operations on floats: which kernels compute them."""
from mpt_keras.runtime.packing import sparse_convolution
