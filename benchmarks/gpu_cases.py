"""What gpu.py measures: training steps of presets and of peers, and their memory beside the planner's."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import torch
import train_step
from torch.utils.flop_counter import FlopCounterMode

from snrise import planning
from snrise.config import RunConfig, parse
from snrise.construct import plain
from snrise.documents import load
from snrise.experiment import Experiment
from snrise.networks import PRESETS, Level, UViTConfig
from snrise.networks.layers import ConvBlock, TransformerBlock
from snrise.precision import resolved
from snrise.training import Precision, TrainState, train

GIB = 2**30
NETWORKS = PRESETS | {"tiny-32": UViTConfig(levels=(Level(channels=16, blocks=1), Level(channels=32, blocks=1)))}


def config(name: str, batch: int) -> RunConfig:
    """A run of a preset that does not end and does no harm to its weights."""
    document = plain(load("emoji-32"))
    side = int(name.rsplit("-", 1)[1])
    document["network"] = plain(NETWORKS[name])
    document["data"] |= {"resolution": [side, side], "classes": None}
    document["training"] |= {
        "batch": batch, "optimizer": "adamw", "learning_rate": 1e-7, "precision": "auto",
    }
    return parse(document)


def planned(name: str, most: int, share: float, device: planning.Device) -> dict[str, Any]:
    """The batch of a preset, and what the planner says of a step: with and without what the allocator loses."""
    batch, limit = most, share * device.memory
    while (found := planning.rehearse(Experiment.imagined(config(name, batch)), device)).peak > limit and batch > 1:
        batch //= 2
    alive = planning.rehearse(Experiment.imagined(config(name, batch)), replace(device, overhead=0.0)).peak
    return {"batch": batch, "reserved": found.peak, "allocated": alive, "flops": found.flops}


class Plans:
    """What `planned` says of presets, worked out beside the measurements."""

    def __init__(self, names: list[str], options: argparse.Namespace) -> None:
        self.options, self.device = options, planning.device("this" if options.where == "cuda" else "cpu")
        self.pool = None
        if not options.reduced:
            self.pool = ProcessPoolExecutor(6, mp_context=get_context("spawn"))
            self.found = {name: self.pool.submit(planned, *self._of(name, options.most)) for name in names}

    def __call__(self, name: str, most: int) -> dict[str, Any]:
        if self.pool is None or most != self.options.most:
            return planned(*self._of(name, most))
        return self.found[name].result()

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def _of(self, name: str, most: int) -> tuple[str, int, float, planning.Device]:
        return name, most, self.options.share, self.device


def compile_blocks(network: torch.nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, ConvBlock | TransformerBlock):
            module.compile(dynamic=False)


def of_preset(name: str, mode: str, plan: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Steps of a preset: their memory, then their speed."""
    device = torch.device(options.where)
    how = Experiment.imagined(config(name, plan["batch"]), None, device)
    state = TrainState.of(how)
    if mode == "compiled":
        state.network.compile(dynamic=False)
    if mode == "blocks":
        compile_blocks(state.network)
    side, parameters = how.size[0], sum(p.numel() for p in state.network.parameters())
    steps = train(state, train_step.batches(side, plan["batch"], device), how)
    next(steps)
    memory = memory_of(steps, state.network, plan, device)
    precision = resolved(device, Precision.AUTO).value
    case = train_step.Case(name, side, precision, mode, plan["batch"], parameters, lambda: next(steps))
    case.flops = plan["flops"] * plan["batch"]
    return timed(case, options) | memory


def memory_of(
    steps: Iterator[Any], network: torch.nn.Module, plan: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """The peak of two steps after the first, beside the predicted one."""
    if device.type != "cuda":
        return {f"{kind}_predicted_gib": plan[kind] / GIB for kind in ("allocated", "reserved")}
    before = [p.detach().clone() for p in network.parameters()]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    next(steps), next(steps)
    del before
    found: dict[str, Any] = {}
    for kind, measured in (("allocated", torch.cuda.max_memory_allocated(device)),
                           ("reserved", torch.cuda.max_memory_reserved(device))):
        found |= {f"{kind}_predicted_gib": plan[kind] / GIB, f"{kind}_gib": measured / GIB,
                  f"{kind}_error": plan[kind] / measured - 1}
    return found


def of_peer(
    name: str, side: int, mode: str, batch: int, flops: float | None, options: argparse.Namespace
) -> dict[str, Any]:
    """Steps of a peer, or of a network of snrise's with as many parameters; `flops` an image, if they are known."""
    device, compiled = torch.device(options.where), mode == "compiled"
    precision = resolved(device, Precision.AUTO).value
    if name in train_step.OURS:
        network = train_step.OURS[name](side)
        step, parameters = train_step.ours(network, side, batch, precision, compiled, device)
    else:
        step, parameters = train_step.PEERS[name](side, batch, precision, compiled, device)
    case = train_step.Case(name, side, precision, mode, batch, parameters, step)
    step()
    if flops is None:
        with FlopCounterMode(display=False) as counter:
            step()
        flops = counter.get_total_flops() / batch
    case.flops = round(flops * batch)
    return timed(case, options)


def timed(case: train_step.Case, options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.where)
    for _ in range(options.rounds):
        sizes = (256,) if options.reduced else None
        train_step.measure(case, options.seconds, device, options.seconds / 12, sizes)
    row = case.row()
    return row | {"peak_tflops": row["gflops"] / max(row["share_of_peak"], 1e-9) / 1e3}
