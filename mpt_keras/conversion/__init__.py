"""From a found ticket to an ordinary Keras model."""

from mpt_keras.conversion.folding import fold_batch_norms as fold_batch_norms
from mpt_keras.conversion.folding import (
    foldable_batch_norms as foldable_batch_norms,
)
from mpt_keras.conversion.freezing import freeze as freeze
