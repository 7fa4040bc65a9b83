"""How much of sampling is the sampler's own arithmetic: its time beside the network's, at the size of a recipe.

    python benchmarks/sampler_overhead.py [--recipe emoji-32] [--batch 64] [--steps 50] [--json]

The network is timed in the run itself; the sampler's own time is that of the same run with a denoiser that answers at
once, of which everything around the network is a part: wrappers, conversion from v, noise of each image's own.
"""

import argparse
import json
import time

import torch

from snrise import experiment
from snrise.denoisers import clipped, dynamically_clipped, from_network, guided
from snrise.documents import load
from snrise.process import Prediction
from snrise.samplers import Ancestral, Ddim, DpmSolverPP, Heun, Karras, generators, last, start

SAMPLERS = {
    "ancestral": Ancestral(), "ddim": Ddim(), "heun": Heun(), "dpm_solver_pp": DpmSolverPP(),
    "dpm_solver_pp, eta 1": DpmSolverPP(eta=1.0),
}


def seconds(function, repeats):
    """The shortest of several runs: other programs only ever make one longer."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return min(found)


def measured(recipe, batch, steps, repeats):
    config = load(recipe)
    network = experiment.network(config, classes=97).eval()
    shape = (batch, 3, *config.data.resolution)
    z, logsnr, labels = torch.randn(shape), torch.zeros(batch), torch.zeros(batch, dtype=torch.long)
    with torch.no_grad():
        network(z, logsnr, labels)
        call = seconds(lambda: network(z, logsnr, labels), repeats)
    answer = torch.randn(shape)

    def at_once(z, logsnr, labels=None):
        return answer

    plain = from_network(at_once, Prediction.V, labels)
    ways = {name: (sampler, clipped(plain)) for name, sampler in SAMPLERS.items()}
    ways["ancestral, guided"] = (Ancestral(), clipped(guided(plain, from_network(at_once, Prediction.V), 1.7)))
    ways["ancestral, guided, rescaled"] = (
        Ancestral(), clipped(guided(plain, from_network(at_once, Prediction.V), 1.7, rescale=0.7))
    )
    ways["ancestral, dynamically clipped"] = (Ancestral(), dynamically_clipped(plain))
    grid = Karras()(config.schedule(config.data.resolution), steps)
    for name, (sampler, denoise) in ways.items():
        own = generators(0, 0, batch)
        began = start(denoise, shape, grid[0], own)
        with torch.no_grad():
            spent = seconds(lambda: last(sampler(denoise, began, grid, own)), repeats)  # noqa: B023
        evaluations = sampler.evaluations(steps) * (2 if "guided" in name else 1)
        yield {
            "sampler": name, "evaluations": evaluations, "network_seconds": evaluations * call,
            "sampler_seconds": spent, "share": spent / (evaluations * call),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="emoji-32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="lines of JSON")
    asked = parser.parse_args()
    for line in measured(asked.recipe, asked.batch, asked.steps, asked.repeats):
        if asked.json:
            print(json.dumps(line))
        else:
            print(f"{line['sampler']:<32}{line['evaluations']:>4} evaluations {line['network_seconds']:8.2f} s, "
                  f"the sampler's own {line['sampler_seconds'] * 1000:7.1f} ms: {line['share']:.2%}")


if __name__ == "__main__":
    main()
