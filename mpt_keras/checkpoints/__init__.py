"""Files of other codes, as models of ours."""

from mpt_keras.checkpoints.biprop import load_biprop as load_biprop
from mpt_keras.checkpoints.reading import CheckpointError as CheckpointError
