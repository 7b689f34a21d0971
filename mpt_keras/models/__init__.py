"""The papers' networks, built and ready to train; logits out."""

from mpt_keras.models.conv_net import conv2 as conv2
from mpt_keras.models.conv_net import conv4 as conv4
from mpt_keras.models.conv_net import conv6 as conv6
from mpt_keras.models.conv_net import conv8 as conv8
from mpt_keras.models.conv_net import conv_net as conv_net
from mpt_keras.models.dense_net import dense_net as dense_net
from mpt_keras.models.dense_net import lenet_300_100 as lenet_300_100
from mpt_keras.models.residual_net import imagenet_resnet18 as imagenet_resnet18
from mpt_keras.models.residual_net import imagenet_resnet34 as imagenet_resnet34
from mpt_keras.models.residual_net import imagenet_resnet50 as imagenet_resnet50
from mpt_keras.models.residual_net import (
    imagenet_resnet101 as imagenet_resnet101,
)
from mpt_keras.models.residual_net import (
    imagenet_wide_resnet18_2 as imagenet_wide_resnet18_2,
)
from mpt_keras.models.residual_net import (
    imagenet_wide_resnet18_3 as imagenet_wide_resnet18_3,
)
from mpt_keras.models.residual_net import (
    imagenet_wide_resnet34_2 as imagenet_wide_resnet34_2,
)
from mpt_keras.models.residual_net import (
    imagenet_wide_resnet34_3 as imagenet_wide_resnet34_3,
)
from mpt_keras.models.residual_net import (
    imagenet_wide_resnet50_2 as imagenet_wide_resnet50_2,
)
from mpt_keras.models.residual_net import (
    imagenet_wide_resnet101_2 as imagenet_wide_resnet101_2,
)
from mpt_keras.models.residual_net import residual_net as residual_net
from mpt_keras.models.residual_net import resnet18 as resnet18
from mpt_keras.models.residual_net import resnet20 as resnet20
from mpt_keras.models.residual_net import resnet32 as resnet32
from mpt_keras.models.residual_net import resnet34 as resnet34
from mpt_keras.models.residual_net import resnet44 as resnet44
from mpt_keras.models.residual_net import resnet50 as resnet50
from mpt_keras.models.residual_net import resnet56 as resnet56
from mpt_keras.models.residual_net import resnet101 as resnet101
from mpt_keras.models.residual_net import resnet110 as resnet110
from mpt_keras.models.residual_net import wide_resnet18_2 as wide_resnet18_2
from mpt_keras.models.residual_net import wide_resnet18_3 as wide_resnet18_3
from mpt_keras.models.vgg import vgg_small as vgg_small
