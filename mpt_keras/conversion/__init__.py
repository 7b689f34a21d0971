"""From a found ticket to an ordinary Keras model."""

from mpt_keras.conversion.freezing import freeze as freeze
