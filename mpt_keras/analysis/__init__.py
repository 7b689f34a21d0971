"""What was found: masks in files, compared, in pictures, as an ensemble."""

from mpt_keras.analysis.churn import mask_churn as mask_churn
from mpt_keras.analysis.comparison import LayerComparison as LayerComparison
from mpt_keras.analysis.comparison import MaskComparison as MaskComparison
from mpt_keras.analysis.comparison import compare_masks as compare_masks
from mpt_keras.analysis.ensemble import ensemble as ensemble
from mpt_keras.analysis.kernels import kernels_of as kernels_of
from mpt_keras.analysis.mask_pictures import draw_inputs as draw_inputs
from mpt_keras.analysis.mask_pictures import draw_kernels as draw_kernels
from mpt_keras.analysis.mask_pictures import draw_masks as draw_masks
from mpt_keras.analysis.masks import load_masks as load_masks
from mpt_keras.analysis.masks import masks_of as masks_of
from mpt_keras.analysis.masks import read_masks as read_masks
from mpt_keras.analysis.masks import save_masks as save_masks
from mpt_keras.analysis.pairs import LayerSpread as LayerSpread
from mpt_keras.analysis.pairs import PairwiseComparison as PairwiseComparison
from mpt_keras.analysis.pairs import Spread as Spread
from mpt_keras.analysis.pairs import compare_all as compare_all
from mpt_keras.analysis.pictures import draw_agreement as draw_agreement
from mpt_keras.analysis.pictures import draw_churn as draw_churn
from mpt_keras.analysis.pictures import draw_jaccard as draw_jaccard
from mpt_keras.analysis.pictures import draw_layers as draw_layers
from mpt_keras.figures import dark_background as dark_background
