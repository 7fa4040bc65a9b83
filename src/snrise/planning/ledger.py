"""Counts the memory and the operations of a computation: of a real one, or of one on fake tensors."""

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from snrise import cpu
from snrise.networks import attention
from snrise.networks.cost import part_of

__all__ = ["Ledger", "bytes_of", "imagined"]


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **more: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


def _attention_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **more: Any) -> int:
    shapes = grad.shape, q.shape, k.shape, v.shape
    return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]


#: Operation -> its FLOP count: PyTorch's, and fused attention on a CPU, which that leaves out.
FLOPS: Mapping[Any, Callable[..., int]] = flop_registry | {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@final
class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager: the bytes of live tensors that were allocated within, and the operations computed.

    A storage counts once, however many views it has, from the operation that allocates it until its last reference
    goes: Python's, autograd's or an optimizer's. Temporary memory within an operation is not seen.

    bytes: alive now. by_part: those by the value of `part` at allocation; a network that is followed sets it to the
    part that runs, and to "loss" at its end. peak: the most alive at a time, a storage of n bytes counting
    `weight(n)/shards`, with `shards` as they are at allocation or later by `divide`.
    flops: of matrix products, convolutions and attention, 2 for each multiply-add.

    >>> with Ledger() as ledger:
    ...     x = torch.zeros(256)
    ...     y = (x + 1).exp() @ x
    >>> ledger.peak > ledger.bytes >= 1024
    True
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = ""
        self.weight: Callable[[int], float] = float
        self.bytes, self.weighted, self.peak, self.flops = 0, 0.0, 0.0, 0
        self.shards = 1
        self.by_part: Counter[str] = Counter()
        self._weights: dict[int, float] = {}
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := FLOPS.get(func._overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        return out

    def follow(self, network: nn.Module) -> None:
        """Attribute allocations to the part of the network that runs, by name: see `cost`."""
        for name, module in network.named_modules():
            if name:
                module.register_forward_pre_hook(partial(self._turn, part_of(name)))
        network.register_forward_hook(partial(self._turn, "loss"))

    def begin(self, weight: Callable[[int], float]) -> None:
        """Reset peak and count, and weigh allocations from here on."""
        self.weight, self.peak, self.flops = weight, self.weighted, 0

    def divide(self, tensor: Tensor, shards: int) -> None:
        """Count a storage that is alive as one of so many shards from here on."""
        key = tensor.untyped_storage()._cdata
        whole = self._weights[key]
        self._weights[key] = whole / shards
        self.weighted -= whole - self._weights[key]

    def _turn(self, part: str, *_: Any) -> None:
        self.part = part

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size, part = storage._cdata, storage.nbytes(), self.part
        if key in self._alive:
            return
        weighted = self._weights[key] = self.weight(size) / self.shards
        self._alive[key] = weakref.ref(storage, lambda _: self._forget(key, size, part))
        self.bytes, self.weighted = self.bytes + size, self.weighted + weighted
        self.by_part[part] += size
        self.peak = max(self.peak, self.weighted)

    def _forget(self, key: int, size: int, part: str) -> None:
        del self._alive[key]
        self.bytes, self.weighted = self.bytes - size, self.weighted - self._weights.pop(key)
        self.by_part[part] -= size


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The bytes of all elements."""
    return sum(t.numel() * t.element_size() for t in tensors)


class _AsComputed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager: results have the dtype of the kernel's, where PyTorch's meta function differs from it.

    The gradient of a group norm has its input's dtype, not the widest of the input's and the weight's.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_group_norm_backward.default:
            x, weight, wanted = args[1], args[4], args[-1]
            return tuple(torch.empty_like(like) if asked else None
                         for like, asked in zip((x, weight, weight), wanted, strict=True))
        return func(*args, **(kwargs or {}))


@contextmanager
def imagined(*, gpu: bool) -> Iterator[Ledger]:
    """Context manager: computations on the device "cpu" run on fake tensors, with shapes and lifetimes but no values.

    With `gpu`, autograd keeps what it would on one. Tensors from outside cannot be used within.

    >>> with imagined(gpu=True) as ledger:
    ...     x = torch.zeros(1000, 1000, 1000)
    >>> ledger.bytes
    4000000000
    """
    attention.axial_angles.cache_clear()
    try:
        with FakeTensorMode(), _AsComputed(), _as_on_gpu() if gpu else nullcontext(), Ledger() as ledger:  # type: ignore[no-untyped-call]
            yield ledger
    finally:
        attention.axial_angles.cache_clear()


@contextmanager
def _as_on_gpu() -> Iterator[None]:
    """Context manager: on the device "cpu", networks keep the activations that they would on a GPU.

    Attention, RMS norm and dropout are fused there; autocast runs norms in float32 and `addcmul` in the widest dtype
    of its inputs (https://pytorch.org/docs/stable/amp.html). PyTorch's functions are patched: its function modes do
    not reach what checkpointing recomputes in the backward pass.
    """
    originals = [(place, name, getattr(place, name)) for place, name, _ in _ON_GPU]
    try:
        for place, name, other in _ON_GPU:
            setattr(place, name, other)
        yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


def _wide(*tensors: Any) -> tuple[Any, ...]:
    """All in float32, if autocast is on."""
    return tree_map_only(Tensor, Tensor.float, tensors) if torch.is_autocast_enabled("cpu") else tensors


def _group_norm(x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    x, weight, bias = _wide(x, weight, bias)
    return torch.group_norm(x, groups, weight, bias, eps)


def _layer_norm(x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    x, weight, bias = _wide(x, weight, bias)
    return torch.layer_norm(x, shape, weight, bias, eps)


def _rms_norm(x: Tensor, shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    # The fused norms keep the same, except for one mean a row.
    return _layer_norm(x, shape, weight, None, eps or 1e-6)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, training)[0] if training and p > 0 else x


def _addcmul(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        widest = functools.reduce(torch.promote_types, (x.dtype, a.dtype, b.dtype))
        x, a, b = x.to(widest), a.to(widest), b.to(widest)
    out: Tensor = torch.ops.aten.addcmul(x, a, b)
    return out


#: Module, name and replacement of what is patched.
_ON_GPU: tuple[tuple[Any, str, Any], ...] = (
    (F, "group_norm", _group_norm), (F, "layer_norm", _layer_norm), (F, "rms_norm", _rms_norm),
    (F, "dropout", _dropout), (torch, "addcmul", _addcmul), (cpu, "FEW", 0),
)
