"""From an ordinary Keras model to a masked one, and from a ticket back."""

from mpt_keras.conversion.conversion_report import (
    ConversionReport as ConversionReport,
)
from mpt_keras.conversion.conversion_report import (
    conversion_report as conversion_report,
)
from mpt_keras.conversion.converting import convert as convert
from mpt_keras.conversion.folding import fold_batch_norms as fold_batch_norms
from mpt_keras.conversion.folding import (
    foldable_batch_norms as foldable_batch_norms,
)
from mpt_keras.conversion.freezing import freeze as freeze
from mpt_keras.conversion.masked_layers import (
    ConversionSettings as ConversionSettings,
)
from mpt_keras.conversion.masked_layers import (
    register_conversion as register_conversion,
)
