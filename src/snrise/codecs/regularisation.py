"""What keeps codes regular: near a normal distribution, or at the vectors of a book."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from snrise._typing import Images

__all__ = ["kl_divergence", "quantized"]


def kl_divergence(mean: Images, logvar: Images) -> Float[Tensor, ""]:
    """KL(N(mean, e^logvar) ‖ N(0, 1)), summed over the values of an image, averaged over images.

    Kingma and Welling 2014, appendix B.

    >>> float(kl_divergence(torch.ones(2, 4, 1, 1), torch.zeros(2, 4, 1, 1)))
    2.0
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / len(mean)


def quantized(
    codes: Float[Tensor, "b c y x"], book: Float[Tensor, "n c"]
) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, ""], Float[Tensor, ""], Int64[Tensor, "b y x"]]:
    """The nearest vectors of a book, with the gradient of the codes; the losses that bring both together.

    These are ‖e − sg[z]‖², which moves the book, and ‖z − sg[e]‖², which moves the codes, as means over values; and the
    numbers of the vectors. Van den Oord et al. 2017, eq. 1 to 3.

    >>> z, book = torch.tensor([[0.9, 0.2]]).T.reshape(1, 1, 2, 1), torch.tensor([[0.0], [1.0]])
    >>> nearest, codebook, commitment, numbers = quantized(z, book)
    >>> nearest.flatten(), numbers.flatten(), round(float(codebook), 3)
    (tensor([1., 0.]), tensor([1, 0]), 0.025)
    """
    rows = codes.movedim(1, -1)
    numbers = torch.cdist(rows.flatten(0, 2), book).argmin(dim=1).view(rows.shape[:-1])
    nearest = F.embedding(numbers, book).movedim(-1, 1)
    losses = F.mse_loss(nearest, codes.detach()), F.mse_loss(codes, nearest.detach())
    return codes + (nearest - codes).detach(), *losses, numbers
