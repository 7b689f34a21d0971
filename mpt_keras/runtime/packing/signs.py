"""Operations on signs as calls of kernels."""

from mpt_keras.runtime.packing.sign_layouts import convert, pack_signs_of

__all__ = ["convert", "pack_signs_of"]
