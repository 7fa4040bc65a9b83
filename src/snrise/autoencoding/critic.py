"""The critic of patches: which part of an image looks like a reconstruction."""

from typing import final

from torch import Tensor, nn

from snrise._typing import Images

__all__ = ["LEAST_SIDE", "Critic"]

#: Of the slope of a leaky ReLU.
SLOPE = 0.2
#: The most channels, in those of the first layer.
WIDEST = 8
#: The shortest side that a critic of 3 layers can take.
LEAST_SIDE = 24


@final
class Critic(nn.Module):
    """Images [b 3 h w] -> logits of patches [b 1 y x], high for real ones (PatchGAN, Isola et al. 2017, sec. 3.2.2).

    Convolutions of 4×4: the first and `layers` − 1 more halve the side and, all but the first followed by batch
    normalisation, double the channels; then two at that side. With 3 layers a patch is of 70×70 pixels.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Conv2d(3, channels, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        inner = channels
        for layer in range(1, layers + 1):
            outer = channels * min(2**layer, WIDEST)
            stride = 2 if layer < layers else 1
            stages += [
                nn.Conv2d(inner, outer, 4, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outer),
                nn.LeakyReLU(SLOPE),
            ]
            inner = outer
        stages.append(nn.Conv2d(inner, 1, 4, padding=1))
        self.stages = nn.Sequential(*stages)
        for module in self.modules():  # as DCGAN is initialised
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Images) -> Tensor:
        """Logits [b 1 y x]."""
        logits: Tensor = self.stages(images)
        return logits
