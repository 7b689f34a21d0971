"""Callbacks: sparsity during training."""

from mpt_keras.callbacks.sparsity import GlobalSparsity as GlobalSparsity
from mpt_keras.callbacks.sparsity import SparsitySchedule as SparsitySchedule
