"""What was found: masks in files, compared, in pictures, as an ensemble."""

from mpt_keras.analysis.comparison import LayerComparison as LayerComparison
from mpt_keras.analysis.comparison import LayerSpread as LayerSpread
from mpt_keras.analysis.comparison import MaskComparison as MaskComparison
from mpt_keras.analysis.comparison import (
    PairwiseComparison as PairwiseComparison,
)
from mpt_keras.analysis.comparison import Spread as Spread
from mpt_keras.analysis.comparison import compare_all as compare_all
from mpt_keras.analysis.comparison import compare_masks as compare_masks
from mpt_keras.analysis.ensemble import ensemble as ensemble
from mpt_keras.analysis.masks import masks_of as masks_of
from mpt_keras.analysis.masks import read_masks as read_masks
from mpt_keras.analysis.masks import save_masks as save_masks
