"""Backbones: by name, by PyTorchVideo's options, or registered. Every network begins with one.

Every backbone maps (N, 3, T, H, W) to (N, C, 4, 1, 1): four temporal slices. The pooled feature is
their mean, so one forward pass gives the pooled and the unpooled embeddings.

A trunk keeps the parameter names of the library it comes from, so `tb.weights` exchanges weights
with stock networks without a table of names.
"""

import difflib
import inspect
import json
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from shards.errors import InputError
from tb.registry import Registry, is_qualified

NUM_SLICES = 4
Options = dict[str, Any]
"""Keyword arguments of PyTorchVideo's `create_resnet`, as a YAML file holds them."""


class Backbone(nn.Module):
    """A trunk and the pool to four temporal slices.

    Attributes:
        trunk: Maps clips (N, 3, T, H, W) to features (N, C, T', H', W').
        identity: The setting that it was built from, as text: a name, or the options as JSON.
            Checkpoints and exports hold it.
        feature_dim: C.
        stock_head: Name of the linear layer that the stock network has after this trunk.
        stock_input: The normalization, by name, of the clips that the stock network's published
            weights were trained on; "none" for a network of this project.
    """

    identity: str

    def __init__(
        self,
        trunk: nn.Module,
        feature_dim: int,
        stock_head: str = "fc",
        stock_input: str = "none",
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.identity = type(trunk).__name__  # until `build_backbone` sets it
        self.stock_head = stock_head
        self.stock_input = stock_input
        self.trunk = trunk
        self.pool = nn.AdaptiveAvgPool3d((NUM_SLICES, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """(N, 3, T, H, W), in [0, 1] or normalised -> (N, C, 4, 1, 1).

        Raises:
            InputError: The trunk does not return (N, C, T', H', W').
        """
        found = self.trunk(clips)
        if found.ndim != 5 or found.shape[1] != self.feature_dim:
            raise InputError(
                f"backbone {self.identity}: its trunk returns shape {tuple(found.shape)}, and"
                f" feature_dim is {self.feature_dim}: return (N, {self.feature_dim}, T, H, W)"
            )
        features: Tensor = self.pool(found)
        return features


BuildsBackbone = TypeVar("BuildsBackbone", bound=Callable[[], Backbone])
_REGISTERED: Registry[Callable[[], Backbone]] = Registry("backbone", "tb.register_backbone")


def register_backbone(build: BuildsBackbone) -> BuildsBackbone:
    """A decorator: the setting `backbone` may name this function, as "module.name".

    Args:
        build: A function without arguments that returns an untrained `Backbone`. Two calls under
            the same seed of torch must return the same weights.

    Raises:
        InputError: It is not at the top level of a module.
    """
    _REGISTERED.add(build)
    return build


def registered_backbone_name(build: Callable[[], Backbone]) -> str:
    """The value of the setting `backbone` for a registered function; InputError for others."""
    return _REGISTERED.name_of(build)


def _pytorchvideo_resnet() -> Callable[..., Any]:
    with warnings.catch_warnings():
        # At import, its dependencies warn about their own calls (torch.jit, pkg_resources).
        warnings.simplefilter("ignore")
        from pytorchvideo.models.resnet import create_resnet

        builder: Callable[..., Any] = create_resnet
        return builder


def _resnet(*, stem_dim_out: int = 64, **options: Any) -> Backbone:
    trunk = _pytorchvideo_resnet()(head=None, stem_dim_out=stem_dim_out, **options)
    for module in trunk.modules():
        if isinstance(module, nn.Conv3d):
            # Some strides are NumPy integers, for which torch.compile would build a dynamic graph.
            module.stride = tuple(map(int, module.stride))
    # The first of four groups of blocks is 4 times as wide as the stem. Each further group doubles
    # the width.
    head = f"blocks.{len(trunk.blocks)}.proj"
    return Backbone(trunk, stem_dim_out * 32, head, "pytorchvideo")


def _slow_r50() -> Backbone:
    return _resnet(model_depth=50, stem_conv_kernel_size=(1, 7, 7))


class _SpatialStride(nn.Conv3d):
    """A 3 x 3 x 3 convolution that keeps every time step, for torchvision's blocks."""

    def __init__(self, dim_in: int, dim_out: int, _middle: int, stride: int = 1) -> None:
        super().__init__(dim_in, dim_out, 3, stride=(1, stride, stride), padding=1, bias=False)


def _small() -> Backbone:
    """A 3D-ResNet-8 with a stem of 8 channels, for clips of 32 px; it learns in a minute.

    It has seven 3D convolutions from end to end. No library has such a network, so its weights have
    names of this project.
    """
    from torchvision.models.video.resnet import BasicBlock

    def stage(dim_in: int, dim_out: int, stride: int) -> nn.Module:
        shortcut = None
        if stride > 1:
            shortcut = nn.Sequential(
                nn.Conv3d(dim_in, dim_out, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(dim_out),
            )
        block: nn.Module = BasicBlock(dim_in, dim_out, _SpatialStride, stride, shortcut)
        return block

    width = 8
    stem = nn.Sequential(
        nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    )
    parts = {
        "stem": stem,
        "layer1": stage(width, width, 1),
        "layer2": stage(width, 2 * width, 2),
        "layer3": stage(2 * width, 4 * width, 2),
    }
    return Backbone(nn.Sequential(OrderedDict(parts)), 4 * width, "fc")


def _r3d_18() -> Backbone:
    from torchvision.models.video import r3d_18

    net = r3d_18()
    # The last layer strides in space only and dilates in time. So 16 frames keep 4 time steps.
    block = net.layer4[0]
    first = block.conv1[0]
    first.stride, first.dilation, first.padding = (1, 2, 2), (2, 1, 1), (2, 1, 1)
    block.downsample[0].stride = (1, 2, 2)
    names = ("stem", "layer1", "layer2", "layer3", "layer4")
    trunk = nn.Sequential(OrderedDict((name, net.get_submodule(name)) for name in names))
    return Backbone(trunk, 512, "fc", "kinetics")


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "slow_r50": _slow_r50,
    "r3d_18": _r3d_18,
    "small": _small,
}
# Options of PyTorchVideo's builder that a trunk does not have, or that YAML cannot hold.
_CLOSED_OPTIONS = ("input_channel", "model_num_class", "dropout_rate", "stem", "bottleneck")


def build_backbone(setting: str | Options) -> Backbone:
    """An untrained backbone.

    Args:
        setting: One of `BACKBONES`; or the qualified name of a registered function; or options of
            PyTorchVideo's `create_resnet`, as in
            {"model_depth": 101, "stem_dim_out": 32, "stage1_pool": "MaxPool3d"}: numbers, lists,
            and classes of torch.nn by their names.

    Raises:
        InputError: There is none of that name, a registered function returns something else, or an
            option is unknown or unusable.
    """
    if isinstance(setting, dict):
        backbone = _resnet_of(setting)
    elif setting in BACKBONES:
        backbone = BACKBONES[setting]()
    elif is_qualified(setting):
        backbone = _registered(setting)
    else:
        raise InputError(
            f"no backbone {setting!r}: choose one of {', '.join(BACKBONES)}, or give options of"
            " PyTorchVideo's create_resnet, as in {model_depth: 101}, or a registered one, as in"
            " module.name"
        )
    backbone.identity = backbone_identity(setting)
    return backbone


def _registered(name: str) -> Backbone:
    backbone = _REGISTERED.find(name)()
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"backbone {name}: its function returns a {type(backbone).__name__}; return"
            " tb.Backbone(trunk, feature_dim)"
        )
    return backbone


def backbone_identity(setting: str | Options) -> str:
    """The setting as text: a name, or the options as JSON in order of their names."""
    return setting if isinstance(setting, str) else json.dumps(setting, sort_keys=True)


def identified_backbone(identity: str) -> Backbone:
    """The untrained backbone of a `backbone_identity`; InputError where there is none."""
    return build_backbone(json.loads(identity) if identity.startswith("{") else identity)


def _resnet_of(setting: Options) -> Backbone:
    identity = backbone_identity(setting)
    options: Options = {name: _option(name, x, identity) for name, x in setting.items()}
    try:
        return _resnet(**options)
    except (AssertionError, TypeError, ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"backbone {identity}: PyTorchVideo cannot build it ({reason}); change that option"
        ) from error


def _option(name: str, value: object, identity: str) -> object:
    """The value as `create_resnet` takes it: lists become tuples, names classes of torch.nn."""
    known = [
        parameter
        for parameter in inspect.signature(_pytorchvideo_resnet()).parameters
        if parameter not in _CLOSED_OPTIONS and not parameter.startswith("head")
    ]
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
        raise InputError(f"backbone {identity}: no option {name!r}; {hint}")
    if isinstance(value, str):
        found = getattr(nn, value, None)
        if not isinstance(found, type):
            raise InputError(
                f"backbone {identity}: torch.nn has no class {value!r}; write numbers and lists"
                " without quotes and parentheses, as in [1, 7, 7]"
            )
        return found
    return _tuples(value)


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
