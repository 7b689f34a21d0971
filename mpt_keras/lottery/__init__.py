"""Winning tickets of ordinary Keras models: pruned, rewound, distilled."""

from mpt_keras.lottery.distillation import REDUCTIONS as REDUCTIONS
from mpt_keras.lottery.distillation import distiller as distiller
from mpt_keras.lottery.enforcement import Pruned as Pruned
from mpt_keras.lottery.enforcement import PrunedAverages as PrunedAverages
from mpt_keras.lottery.enforcement import apply_masks as apply_masks
from mpt_keras.lottery.enforcement import remove_masks as remove_masks
from mpt_keras.lottery.kernels import kernel_values as kernel_values
from mpt_keras.lottery.kernels import prunable_kernels as prunable_kernels
from mpt_keras.lottery.magnitude import Magnitude as Magnitude
from mpt_keras.lottery.masks import SCOPES as SCOPES
from mpt_keras.lottery.masks import magnitude_masks as magnitude_masks
from mpt_keras.lottery.masks import random_masks as random_masks
from mpt_keras.lottery.records import Level as Level
from mpt_keras.lottery.records import Ticket as Ticket
from mpt_keras.lottery.rewinding import Advanced as Advanced
from mpt_keras.lottery.rewinding import load_state as load_state
from mpt_keras.lottery.rewinding import reinitialize as reinitialize
from mpt_keras.lottery.search import CONTROLS as CONTROLS
from mpt_keras.lottery.search import TicketSearch as TicketSearch
