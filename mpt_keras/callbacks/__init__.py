"""Callbacks: sparsity and masks in training, guards, checkpoints, backups."""

from mpt_keras.callbacks.churn import MaskChurn as MaskChurn
from mpt_keras.callbacks.guards import CheckFinite as CheckFinite
from mpt_keras.callbacks.recycling import WeightRecycling as WeightRecycling
from mpt_keras.callbacks.saving import AtomicBackup as AtomicBackup
from mpt_keras.callbacks.saving import AtomicCheckpoint as AtomicCheckpoint
from mpt_keras.callbacks.sparsity import GlobalSparsity as GlobalSparsity
from mpt_keras.callbacks.sparsity import SparsitySchedule as SparsitySchedule
