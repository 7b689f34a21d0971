"""Callbacks: sparsity and masks in training, guards, checkpoints, backups."""

from mpt_keras.callbacks.backup import AtomicBackup as AtomicBackup
from mpt_keras.callbacks.check_finite import CheckFinite as CheckFinite
from mpt_keras.callbacks.checkpoint import AtomicCheckpoint as AtomicCheckpoint
from mpt_keras.callbacks.churn import MaskChurn as MaskChurn
from mpt_keras.callbacks.global_sparsity import GlobalSparsity as GlobalSparsity
from mpt_keras.callbacks.recycling import WeightRecycling as WeightRecycling
from mpt_keras.callbacks.schedule import SparsitySchedule as SparsitySchedule
