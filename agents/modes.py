"""Which networks behave differently while they learn, and which cannot."""

from torch import nn

from networks.auxiliary import AuxiliaryLoss

_ALWAYS_ALIKE = (
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Flatten, nn.Linear,
    nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.LayerNorm, nn.GroupNorm,
    nn.Tanh, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid,
)  # fmt: skip
_OURS = ("agents.", "networks.")


def is_alike_in_learning(module: nn.Module) -> bool:
    """Tell whether neither dropout nor drawn numbers make learning differ from acting.

    What is not known to be so is taken to differ: a class of the user's may do anything.
    """
    return all(map(_is_alike, module.modules()))


def _is_alike(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        # On a GPU their gradient is only there in training mode.
        return not module.dropout and all(p.device.type == "cpu" for p in module.parameters())
    if type(module) in _ALWAYS_ALIKE:
        return True
    # None of ours reads its mode; auxiliary losses may draw.
    return type(module).__module__.startswith(_OURS) and not isinstance(module, AuxiliaryLoss)
