"""What the authors' networks compute, straight from a PyTorch `state_dict`.

An oracle for `mpt_keras.checkpoints`: the names of the arrays and the forward
pass of their code, written as functions of the arrays. Needs PyTorch.
"""

import torch
from torch.nn import functional

# Before and behind the flattening. c: masked convolution, n: batch norm,
# a: activation, r: ReLU, p: pool; a letter's position is its name.
SEQUENTIAL = {
    "FC": ("", "cacac"),
    "Conv2": ("cacap", "cacac"),
    "Conv4Wide": ("cacap" * 2, "cacac"),
    "Conv6": ("cacap" * 3, "cacac"),
    "Conv8Wide": ("cacap" * 4, "cacac"),
    "Conv2_BinAct": ("cnacpna", "cnacnac"),
    "Conv6Wide_BinAct": ("cnacpna" * 3, "cnacnac"),
    "Conv8_BinAct": ("cnacpna" * 4, "cnacnac"),
    "VGG_Small": ("crcpnccpnccpnr", "c"),
    "VGG_Small_BinAct": ("cacpna" * 2 + "cacpnr", "c"),
    "VGG_Small_noReLU_BinAct": ("cacpna" * 2 + "cacpnr", "c"),
    "VGG_Small_bn_BinAct": ("cnacpna" * 2 + "cnacpnr", "c"),
    "Wide_VGG_Small": ("cnacpna" * 2 + "cnacpnr", "c"),
    "Wide_VGG_Small_132": ("cnacpna" * 2 + "cnacpnr", "c"),
}
SIGN_WITHOUT_NORM = ("VGG_Small_BinAct", "VGG_Small_noReLU_BinAct")
_BASIC, _DEEP = (2, 2, 2, 2), (3, 4, 6, 3)
# Blocks per stage, filters per stage (a sixteenth of theirs, or a quarter of
# the small ones), filters inside and at the end of a block as multiples.
_PLAIN, _WIDE = (4, 8, 16, 32), (4, 12, 24, 48)
RESIDUAL = {
    "cResNet18": (_BASIC, _PLAIN, None),
    "cResNet18_BinAct": (_BASIC, _PLAIN, None),
    "cResNet18_v2": (_BASIC, _PLAIN, None),
    "cResNet18_BinAct_v2": (_BASIC, _PLAIN, None),
    "cResNet50": (_DEEP, _PLAIN, 1),
    "cResNet20": ((3, 3, 3), (4, 8, 16), None),
    "cResNet32_BinAct": ((5, 5, 5), (4, 8, 16), None),
    "cWideResNet18_2": (_BASIC, _WIDE, None),
    "cWideResNet18_3_BinAct": (_BASIC, (4, 16, 32, 64), None),
    "cifarResNet18_BinAct": (_BASIC, _PLAIN, None),
    "ResNet18": (_BASIC, _PLAIN, None),
    "ResNet18_v2": (_BASIC, _PLAIN, None),
    "ResNet34_BinAct_v2": (_DEEP, _PLAIN, None),
    "ResNet50": (_DEEP, _PLAIN, 1),
    "WideResNet50_2_BinAct": (_DEEP, _PLAIN, 2),
    "WideResNet18_2_BinAct": (_BASIC, _WIDE, None),
    "WideResNet18_3_BinAct": (_BASIC, (4, 14, 28, 56), None),
    "WideResNet18_v2": (_BASIC, _WIDE, None),
}


def random_state(arch, generator, affine=False, side=32, width=5):
    """A `state_dict` of an architecture, of small width."""
    state = {}

    def kernel(name, inputs, outputs, size):
        shape = (outputs, inputs, size, size)
        for kind in ("weight", "scores"):
            values = torch.randn(shape, generator=generator)
            state[f"{name}.{kind}"] = values

    def norm(name, channels):
        if affine:
            for kind in ("weight", "bias"):
                values = torch.randn(channels, generator=generator)
                state[f"{name}.{kind}"] = values
        values = torch.rand((2, channels), generator=generator)
        state[f"{name}.running_mean"] = values[0] - 0.5
        state[f"{name}.running_var"] = 20 * values[1] + 1
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    if arch in SEQUENTIAL:
        _sequential_state(arch, kernel, norm, side, width)
    else:
        _residual_state(arch, kernel, norm)
    return state


def _sequential_state(arch, kernel, norm, side, width):
    convs, linear = SEQUENTIAL[arch]
    channels, inputs, pools = 3, 3, 0
    for position, letter in enumerate(convs):
        if letter == "c":
            channels = width * 2**pools
            kernel(f"convs.{position}", inputs, channels, 3)
            inputs = channels
        elif letter == "n":
            norm(f"convs.{position}", channels)
        pools += letter == "p"
    inputs = side**2 if arch == "FC" else channels * (side >> pools) ** 2
    units = [300, 100] if arch == "FC" else [4 * width] * 2
    units = [*units, 10] if len(linear) > 1 else [10]
    for position, letter in enumerate(linear):
        if letter == "c":
            channels = units.pop(0)
            kernel(f"linear.{position}", inputs, channels, 1)
            inputs = channels
        elif letter == "n":
            norm(f"linear.{position}", channels)


def _residual_state(arch, kernel, norm):
    blocks, widths, inner = RESIDUAL[arch]
    shortcut = "shortcut" if arch.startswith(("cR", "cW")) else "downsample"
    kernel("conv1", 3, widths[0], 3 if shortcut == "shortcut" else 7)
    norm("bn1", widths[0])
    inputs = widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            sizes = [(width, 3), (width, 3)]
            if inner:
                sizes = [(inner * width, 1), (inner * width, 3), (4 * width, 1)]
            into = inputs
            for number, (outputs, size) in enumerate(sizes, 1):
                kernel(f"{at}.conv{number}", into, outputs, size)
                norm(f"{at}.bn{number}", outputs)
                into = outputs
            if block == 0 and (stage > 1 or inputs != into):
                kernel(f"{at}.{shortcut}.0", inputs, into, 1)
                norm(f"{at}.{shortcut}.1", into)
            inputs = into
    kernel("fc", inputs, 10, 1)


def select(state, keep, binarize=True, one_threshold=False):
    """Name of a layer -> its effective kernel."""
    names = [name[:-7] for name in state if name.endswith(".scores")]
    size = {name: state[f"{name}.scores"].abs() for name in names}
    if one_threshold:
        every = torch.cat([size[name].flatten() for name in names]).sort()[0]
        threshold = every[int((1 - keep) * len(every)) - 1]
    kernels = {}
    for name in names:
        weight = state[f"{name}.weight"]
        if one_threshold:
            mask = (size[name] > threshold).float()
            count = mask.sum()
        else:
            order = size[name].flatten().argsort()
            mask = torch.ones(weight.numel())
            mask[order[: int((1 - keep) * weight.numel())]] = 0
            mask = mask.reshape(weight.shape)
            count = int(keep * weight.numel())
        kernels[name] = weight * mask
        if binarize:
            gain = kernels[name].abs().sum() / count
            kernels[name] = gain * mask * weight.sign()
    return kernels


def logits(arch, state, kernels, images):
    """The forward pass; images NCHW."""
    binary = "BinAct" in arch or arch == "Wide_VGG_Small"

    def act(x):
        if arch in SIGN_WITHOUT_NORM:  # theirs is 0 at 0; ours is not
            return torch.where(x >= 0, 1.0, -1.0)
        return x.sign() if binary else x.relu()

    def norm(name, x):
        return functional.batch_norm(
            x,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state.get(f"{name}.weight"),
            state.get(f"{name}.bias"),
        )

    def conv(name, x, stride=1):
        kernel = kernels[name]
        padding = kernel.shape[-1] // 2
        return functional.conv2d(x, kernel, stride=stride, padding=padding)

    if arch in SEQUENTIAL:
        return _sequential(arch, conv, norm, act, images)
    return _residual(arch, conv, norm, act, images)


def _sequential(arch, conv, norm, act, x):
    for part, letters in zip(
        ("convs", "linear"), SEQUENTIAL[arch], strict=True
    ):
        for position, letter in enumerate(letters):
            name = f"{part}.{position}"
            if letter == "c":
                x = conv(name, x)
            elif letter == "n":
                x = norm(name, x)
            elif letter == "p":
                x = functional.max_pool2d(x, 2)
            else:
                x = act(x) if letter == "a" else x.relu()
        if part == "convs":
            x = x.flatten(1)[:, :, None, None]
    return x[:, :, 0, 0]


def _residual(arch, conv, norm, act, x):
    blocks, _, inner = RESIDUAL[arch]
    is_cifar = arch.startswith(("cR", "cW"))
    late = arch.endswith("_v2")
    both = late and not is_cifar and "BinAct" not in arch

    def pool(x):
        return functional.max_pool2d(x, 3, stride=2, padding=1)

    x = conv("conv1", x, 1 if is_cifar else 2)
    if not is_cifar and late:
        x = pool(x)
    x = norm("bn1", x)
    if not is_cifar and not late:
        x = pool(x)
    x = act(x)
    last = 3 if inner else 2
    shortcut = "shortcut" if is_cifar else "downsample"
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = x
            for number in range(1, last + 1):
                strided = number == (2 if inner else 1)
                y = conv(f"{at}.conv{number}", y, stride if strided else 1)
                if number < last:
                    y = act(norm(f"{at}.bn{number}", y))
            if both or not late:
                y = norm(f"{at}.bn{last}", y)
            if block == 0 and (stage > 1 or x.shape != y.shape):
                x = conv(f"{at}.{shortcut}.0", x, stride)
                x = norm(f"{at}.{shortcut}.1", x)
            x = x + y
            if late:
                x = norm(f"{at}.bn{last}", x)
            x = act(x)
    side = 4 if is_cifar else x.shape[-1]
    return conv("fc", functional.avg_pool2d(x, side)).flatten(1)
