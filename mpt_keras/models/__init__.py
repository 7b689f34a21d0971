"""The papers' networks, built and ready to train; logits out."""

from mpt_keras.models.conv_net import conv2 as conv2
from mpt_keras.models.conv_net import conv4 as conv4
from mpt_keras.models.conv_net import conv6 as conv6
from mpt_keras.models.conv_net import conv8 as conv8
from mpt_keras.models.conv_net import conv_net as conv_net
