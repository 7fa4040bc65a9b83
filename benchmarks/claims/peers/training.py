"""How peers are trained: their own networks and losses in one loop, which goes on after an interruption."""

import io
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from statistics import median
from sys import modules
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.claims.peers.contender import BATCH, HALF_LIFE, WARMUP, Made, Order, Way, pictures_of
from benchmarks.claims.texts import digest
from snrise._errors import SnriseError
from snrise.cpu import keep_freed_memory
from snrise.data import to_float, to_uint8
from snrise.files import write_atomically
from snrise.precision import Precision, autocast
from snrise.rates import CosineDecay, Decay, LearningRate
from snrise.training import Ema

__all__ = ["TRAINED", "Peer", "Training", "all_cores", "module", "paced", "part", "trained"]

#: The trainings of peers.
TRAINED = Path("runs/claims/peers/trained")
#: A training is saved whenever so many seconds have passed.
EVERY = 60.0
#: Pictures that are sampled at a time.
CHUNK = 64
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Peer(ABC):
    """Another package's network of one size at one side, its loss, its optimizer's settings, and its samplers.

    Losses and samplers draw from PyTorch's own generator, as those packages do. Weights stay in the packages' memory
    order: channels-last gains them nothing.
    """

    side: int
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    weight_decay: ClassVar[float] = 0.0
    epsilon: ClassVar[float] = 1e-8
    decay: ClassVar[Decay] = CosineDecay()

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network."""

    @abstractmethod
    def loss(self, network: nn.Module, x: Tensor) -> Tensor:
        """The mean loss of images in −1…1 [b 3 side side]."""

    @abstractmethod
    def sample(self, network: nn.Module, number: int, way: Way) -> Tensor:
        """So many pictures in about −1…1."""

    def parameters(self) -> int:
        return sum(p.numel() for p in self.network().parameters())

    def pace(self, seconds: float) -> float:
        order = Order(rate=1e-4, images=10**6, seed=0, pictures=0, way=Way("", 0))
        with torch.random.fork_rng(devices=[]), all_cores(), closing(_batches(self, 0, 0)) as batches:
            training = Training(self, order)
            return paced((training.step(next(batches)) for _ in iter(int, 1)), seconds)

    def make(self, order: Order) -> Made:
        network = trained(self, order, TRAINED / self._name(order) / f"seed{order.seed}.pt")
        started, parts = time.perf_counter(), []
        with torch.random.fork_rng(devices=[]), torch.no_grad(), autocast(CPU, Precision.AUTO):
            for first in range(0, order.pictures, CHUNK):
                torch.manual_seed(10**6 * (order.seed + 1) + first)
                made = self.sample(network, min(CHUNK, order.pictures - first), order.way)
                parts.append(to_uint8(made.float().clamp(-1, 1)))
        pictures, seconds = torch.cat(parts), time.perf_counter() - started
        return Made(pictures, len(pictures) / seconds)

    def _name(self, order: Order) -> str:
        told = digest(f"{self!r} {order.rate} {order.images}")
        return f"{type(self).__name__}-{self.side}-{told}"


class Training:
    """A peer's network in training: the weights, their average, the optimizer and the images seen."""

    def __init__(self, peer: Peer, order: Order) -> None:
        torch.manual_seed(order.seed)
        self.peer = peer
        self.network = peer.network().train()
        settings: dict[str, Any] = {"betas": peer.betas, "weight_decay": peer.weight_decay, "eps": peer.epsilon}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=order.rate, fused=True, **settings)
        self.ema = Ema(self.network, half_life=HALF_LIFE * order.images)
        warmup, shape = int(WARMUP * order.images), peer.decay
        self.rate = LearningRate(peak=order.rate, total=order.images, warmup=warmup, decay=1.0, shape=shape)
        self.seen = 0

    def step(self, images: Tensor) -> None:
        """A step on a batch of uint8 [b 3 side side]; without an update where loss or gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.seen + len(images) // 2)
        with autocast(CPU, Precision.AUTO):
            loss = self.peer.loss(self.network, to_float(images))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if norm.isfinite():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.seen += len(images)
        self.ema.update(self.network, self.seen, len(images))

    def save(self, file: Path) -> None:
        """Write all that the next step depends on, PyTorch's generator included."""
        content = io.BytesIO()
        torch.save({
            "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "ema": self.ema.parameters,
            "seen": self.seen, "generator": torch.get_rng_state(),
        }, content)
        write_atomically(file, content.getvalue())

    def load(self, file: Path) -> None:
        """Go on from a file."""
        stored = torch.load(file, weights_only=True)
        self.network.load_state_dict(stored["network"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.ema.load(stored["ema"])
        self.seen = stored["seen"]
        torch.set_rng_state(stored["generator"])


def trained(peer: Peer, order: Order, file: Path, every: float = EVERY) -> nn.Module:
    """The averaged network after a training, which begins where the file says and is saved in it."""
    keep_freed_memory()
    with torch.random.fork_rng(devices=[]):
        training = Training(peer, order)
        if file.exists():
            training.load(file)
        saved = time.monotonic()
        with closing(_batches(peer, order.seed, training.seen)) as batches:
            while training.seen < order.images:
                training.step(next(batches))
                if time.monotonic() - saved >= every or training.seen >= order.images:
                    training.save(file)
                    saved = time.monotonic()
    return training.ema.averaged(training.network).eval()


def paced(steps: Iterator[object], seconds: float, warm: int = 2, fewest: int = 5) -> float:
    """Images a second, by the median of the steps that so many seconds hold; the first steps are left out."""
    keep_freed_memory()
    for _ in range(warm):
        next(steps)
    times: list[float] = []
    while len(times) < fewest or sum(times) < seconds:
        started = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - started)
    return BATCH / median(times)


@contextmanager
def all_cores() -> Iterator[None]:
    """Let PyTorch use every core within."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def module(name: str, install: str = "pip install 'snrise[bench]'") -> Any:
    """A module of a peer's package.

    Raises:
        SnriseError: if it, or what it imports, is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        where = f"claims: the peer {name.partition('.')[0]}"
        raise SnriseError(f"{where} needs the package {error.name}, which is not installed; {install}") from error


def part(name: str, install: str = "pip install 'snrise[bench]'") -> Any:
    """A module of a peer's package, without running the package's `__init__`.

    It would import what training and sampling do not need: trackers, launchers, the feature networks of metrics.
    """
    package = name.partition(".")[0]
    spec = find_spec(package) if package not in modules else None
    if spec is not None:
        modules[package] = module_from_spec(spec)
    return module(name, install)


def _batches(peer: Peer, seed: int, position: int) -> Iterator[Tensor]:
    stream = pictures_of(peer.side).batches(BATCH, seed=seed, position=position)
    for batch in stream:
        yield batch.images
