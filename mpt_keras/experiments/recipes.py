"""The published recipes, each a row of settings.

What a row does not name is usual for the setting. The fractions pruned are not
part of a recipe. Sources: the configuration files and run scripts of
Diffenderfer and Kailkhura (ICLR 2021), of Ramanujan et al. (CVPR 2020), of
mattgorb/parameter_tiling_and_recycling (recycling, and its baselines), and of
dchiji-ntt/iterand.
"""

# Those in which a global sparsity comes to its height, in the authors' code.
RAMP_EPOCHS = 10

_SGD = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "learning_rate": 0.1,
    "schedule": "cosine",
    "score_decay": 1e-4,
}
# Their code gives Adam no weight decay, whatever their files say.
_ADAM = {
    "optimizer": "adam",
    "learning_rate": 0.1,
    "schedule": "cosine",
    "score_decay": 0.0,
}
_SCALED = {"kernel_initializer": "kaiming_normal", "scale_fan": "authors"}
_UNSCALED = {"kernel_initializer": "kaiming_normal", "scale_fan": "none"}
_SIGNED = {"kernel_initializer": "signed_constant", "scale_fan": "authors"}
_SIGNED_UNSCALED = _SIGNED | {"scale_fan": "none"}

_BIPROP = {"method": "biprop", **_SCALED}
_EDGE_POPUP = {"method": "edge_popup", **_SCALED}
_DENSE = {"method": "dense"}
_BINARY = {"binary_activations": True}
_BN = {"trained_batch_norm": True}

_CIFAR10 = {"dataset": "cifar10"}
_CONV = _CIFAR10 | {"model": "conv4", "batch_size": 128, "epochs": 100}
_FC = _CONV | {"model": "lenet_300_100", "dataset": "mnist"}
_VGG = _CONV | {"model": "vgg_small"}
_RESNET18 = _CIFAR10 | {
    "model": "resnet18",
    "batch_size": 256,
    "epochs": 100,
}
_RESNET20 = _RESNET18 | {"model": "resnet20"}
# The files say 100 epochs, the script that ran them 250.
_LONG_CONV = _CONV | {"epochs": 250}
_RECYCLED_BIPROP = {
    "method": "biprop",
    **_UNSCALED,
    "recycling": "highest",
    "recycled_fraction": 0.2,
    "recycling_every": 10,
}
_RECYCLED_EDGE_POPUP = _RECYCLED_BIPROP | {
    "method": "edge_popup",
    **_SIGNED_UNSCALED,
    "recycled_fraction": 0.1,
    "recycling_every": 3,
}
_ITERAND = {
    "method": "edge_popup",
    **_UNSCALED,
    "recycling": "random",
    "recycled_fraction": 0.1,
    "recycling_every": 300,
    "recycling_per": "step",
}

SMALL = {
    "edge_popup_conv": _CONV | _SGD | _EDGE_POPUP,
    "edge_popup_fc": _FC | _SGD | _EDGE_POPUP,
    "edge_popup_resnet18": (
        _RESNET18 | _SGD | _EDGE_POPUP | {"score_decay": 5e-4}
    ),
    "edge_popup_conv_signed": (
        _LONG_CONV | _SGD | _EDGE_POPUP | _SIGNED_UNSCALED
    ),
    "edge_popup_recycling_conv": _LONG_CONV | _SGD | _RECYCLED_EDGE_POPUP,
    "edge_popup_recycling_conv6": (
        _LONG_CONV
        | _SGD
        | _RECYCLED_EDGE_POPUP
        | {"model": "conv6", "recycled_fraction": 0.2, "recycling_every": 10}
    ),
    "edge_popup_recycling_conv6_normal": (
        _LONG_CONV | _SGD | _RECYCLED_EDGE_POPUP | _SCALED | {"model": "conv6"}
    ),
    "edge_popup_recycling_resnet18": (
        _RESNET18
        | _SGD
        | _RECYCLED_EDGE_POPUP
        | {
            "batch_size": 128,
            "epochs": 250,
            "score_decay": 5e-4,
            "recycled_fraction": 0.2,
            "recycling_every": 10,
        }
    ),
    # Iterative randomization: its authors' networks, and a published re-run.
    "edge_popup_iterand_conv": (
        _CONV | _SGD | _ITERAND | {"model": "conv6", "learning_rate": 0.3}
    ),
    "edge_popup_iterand_resnet18": (
        _RESNET18 | _SGD | _ITERAND | {"batch_size": 128, "score_decay": 5e-4}
    ),
    "edge_popup_iterand_conv_rerun": (
        _LONG_CONV
        | _SGD
        | _ITERAND
        | {"recycling_every": 1, "recycling_per": "epoch"}
    ),
    "biprop_recycling_conv": _LONG_CONV | _SGD | _RECYCLED_BIPROP,
    "biprop_recycling_resnet18": (
        _RESNET18
        | _SGD
        | _RECYCLED_BIPROP
        | {"batch_size": 128, "epochs": 200, "score_decay": 5e-4}
    ),
    "biprop_conv": _LONG_CONV | _SGD | _BIPROP,
    "biprop_conv_binary": _LONG_CONV | _ADAM | _BIPROP | _BINARY,
    "biprop_vgg": _VGG | _ADAM | _BIPROP,
    "biprop_vgg_bn": _VGG | _ADAM | _BIPROP | _BN,
    "biprop_vgg_binary": (
        _VGG
        | _ADAM
        | _BIPROP
        | _BINARY
        | {"model": "vgg_small_norm_at_pools", "learning_rate": 2e-4}
    ),
    "biprop_vgg_binary_bn": (
        _VGG
        | _ADAM
        | _BIPROP
        | _BINARY
        | _BN
        | {"model": "vgg_small_norm_at_pools", "learning_rate": 2e-4}
    ),
    # Their Wide_VGG_Small of width 10.
    "biprop_wide_vgg_binary": (
        _VGG | _ADAM | _BIPROP | _BINARY | {"width": 1.25}
    ),
    "biprop_wide_vgg_binary_bn": (
        _VGG
        | _ADAM
        | _BIPROP
        | _BINARY
        | _BN
        | {"width": 1.25, "learning_rate": 2e-4}
    ),
    "biprop_resnet18": _RESNET18 | _SGD | _BIPROP | {"score_decay": 5e-4},
    "biprop_resnet18_bn": (
        _RESNET18 | _SGD | _BIPROP | _BN | {"score_decay": 5e-4}
    ),
    "biprop_resnet18_binary": _RESNET18 | _ADAM | _BIPROP | _BINARY,
    "biprop_resnet18_binary_bn": _RESNET18 | _ADAM | _BIPROP | _BINARY | _BN,
    "biprop_resnet20": (
        _RESNET20 | _SGD | _BIPROP | _UNSCALED | {"score_decay": 5e-4}
    ),
    "biprop_resnet20_bn": (
        _RESNET20 | _SGD | _BIPROP | _UNSCALED | _BN | {"score_decay": 5e-4}
    ),
    "biprop_resnet20_binary": (
        _RESNET20 | _ADAM | _BIPROP | _UNSCALED | _BINARY
    ),
    "biprop_resnet20_binary_bn": (
        _RESNET20 | _ADAM | _BIPROP | _UNSCALED | _BINARY | _BN
    ),
    "dense_conv": _CONV | _SGD | _DENSE | {"learning_rate": 0.01},
    "dense_conv2_adam": (
        _CONV
        | _ADAM
        | _DENSE
        | {
            "model": "conv2",
            "learning_rate": 2e-4,
            "schedule": "constant",
            "batch_size": 60,
        }
    ),
    "dense_conv_adam": (
        _CONV
        | _ADAM
        | _DENSE
        | {"learning_rate": 3e-4, "schedule": "constant", "batch_size": 60}
    ),
    "dense_fc": (
        _FC
        | _ADAM
        | _DENSE
        | {"learning_rate": 1.2e-3, "schedule": "constant", "batch_size": 60}
    ),
    "dense_resnet18": _RESNET18 | _SGD | _DENSE | _BN | {"score_decay": 5e-4},
}

_TICKET = {"optimizer": "adam", "schedule": "constant", "score_decay": 0.0}
_TICKET |= {"dataset": "cifar10"}
_TICKET |= {"batch_size": 60, "pruning_rate": 0.2, "scope": "layer"}
_TICKET |= {"initializer": "glorot_normal", "augment": False}
_RESNET_TICKET = {
    **_SGD,
    **_CIFAR10,
    "schedule": "steps",
    "batch_size": 128,
    "trained_batch_norm": True,
    "scope": "global",
}

# The lottery ticket hypothesis: Frankle and Carbin (ICLR 2019), and for the
# ResNet, with rewinding to a later step, facebookresearch/open_lth.
LOTTERY = {
    "lottery_fc": _TICKET
    | {
        "model": "lenet_300_100",
        "dataset": "mnist",
        "epochs": 50,
        "learning_rate": 1.2e-3,
    },
    "lottery_conv2": _TICKET
    | {
        "model": "conv2",
        "epochs": 24,
        "learning_rate": 2e-4,
        "convolution_rate": 0.1,
    },
    "lottery_conv": _TICKET
    | {
        "model": "conv4",
        "epochs": 30,
        "learning_rate": 3e-4,
        "convolution_rate": 0.1,
    },
    "lottery_conv6": _TICKET
    | {
        "model": "conv6",
        "epochs": 36,
        "learning_rate": 3e-4,
        "convolution_rate": 0.15,
    },
    "lottery_resnet20": _RESNET_TICKET
    | {
        "model": "resnet20",
        "epochs": 160,
        "milestones": (80, 120),
        "pruning_rate": 0.2,
        "rewind_steps": (500,),
    },
}
_DISTILLED = {"temperature": 5.0, "alpha": 0.9, "kl_reduction": "mean"}
_DISTILLED |= {"scope": "global", "only_convolutions": True}

# Distilled tickets: VITA-Group's code for "Good Students Play Big Lottery
# Better" (2021). Only the ResNet's training is published.
KD = {
    "kd_resnet18": _RESNET_TICKET
    | _DISTILLED
    | {
        "model": "resnet18",
        "epochs": 182,
        "milestones": (90, 135),
        "score_decay": 2e-4,
        # After 33 epochs of 391 steps.
        "rewind_steps": (12903,),
    },
    **{
        name.replace("lottery", "kd"): (
            LOTTERY[name]
            | _DISTILLED
            | {"only_convolutions": False, "convolution_rate": None}
        )
        for name in ("lottery_fc", "lottery_conv2", "lottery_conv")
    },
}

_IMAGENET = {
    "dataset": "imagenet2012",
    "batch_size": 256,
    "epochs": 100,
    "augment": True,
    "label_smoothing": 0.1,
    "warmup_epochs": 5,
    "learning_rate": 0.256,
}
_IMAGENET_SGD = (
    _SGD | _IMAGENET | {"momentum": 0.875, "score_decay": 3.0517578125e-5}
)
_IMAGENET_ADAM = _ADAM | _IMAGENET
_RESNET50 = {"model": "imagenet_resnet50"}
_WIDE = {"model": "imagenet_wide_resnet50_2"}
_WIDE_34 = _IMAGENET_ADAM | {
    "model": "imagenet_wide_resnet34_2",
    "epochs": 120,
    "learning_rate": 2e-4,
    "schedule": "constant",
    "warmup_epochs": 0,
}

IMAGENET = {
    "edge_popup_resnet": _IMAGENET_SGD | _EDGE_POPUP | _UNSCALED | _RESNET50,
    "edge_popup_resnet_signed": (
        _IMAGENET_SGD
        | _EDGE_POPUP
        | _SIGNED
        | _RESNET50
        | {"learning_rate": 0.1}
    ),
    "edge_popup_wide_resnet": (
        _IMAGENET_SGD
        | _EDGE_POPUP
        | _UNSCALED
        | _WIDE
        | {"learning_rate": 0.128}
    ),
    "biprop_resnet": _IMAGENET_SGD | _BIPROP | _RESNET50,
    "biprop_resnet_bn": _IMAGENET_SGD | _BIPROP | _BN | _RESNET50,
    "biprop_resnet_binary": _IMAGENET_ADAM | _BIPROP | _BINARY | _RESNET50,
    "biprop_resnet_binary_bn": (
        _IMAGENET_ADAM | _BIPROP | _BINARY | _BN | _RESNET50
    ),
    "biprop_wide_resnet": (
        _IMAGENET_SGD | _BIPROP | _UNSCALED | _WIDE | {"learning_rate": 0.128}
    ),
    "biprop_wide_resnet_bn": (
        _IMAGENET_SGD | _BIPROP | _SIGNED_UNSCALED | _BN | _WIDE
    ),
    "biprop_wide_resnet34": (
        _IMAGENET_SGD | _BIPROP | {"model": "imagenet_wide_resnet34_2"}
    ),
    # Perhaps those behind the published rows of this network.
    "biprop_wide_resnet34_binary": _WIDE_34 | _BIPROP | _BINARY,
    "biprop_wide_resnet34_binary_bn": _WIDE_34 | _BIPROP | _BINARY | _BN,
}
