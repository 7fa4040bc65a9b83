"""The page for users of diffusers runs, at a smaller size, and says what the code does."""

import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from snrise.interop import SCHEDULERS
from snrise.schedules import Cosine, Tabulated, for_resolution
from tiny import command

pytest.importorskip("diffusers")
TEXT = (Path(__file__).parents[2] / "docs" / "diffusers.md").read_text(encoding="utf-8")
SIZES = "resolution, reference = 512, 64"
#: What makes a line of the page short.
SHORT = {SIZES: "resolution, reference = 32, 8", "num_inference_steps=32": "num_inference_steps=2"}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Those of its Python, one program, after its command on the built-in model."""
    found = {}
    torch.manual_seed(0)
    (told,) = re.findall(r"```sh\nsnrise (.*?)\n```", TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        command(*told.replace("runs/emoji-32", "emoji-32").split())
        for program in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
            for long, short in SHORT.items():
                program = program.replace(long, short)
            exec(compile(program, "diffusers.md", "exec"), found)
    return found


def test_it_trains_and_samples(names):
    assert SIZES in TEXT
    assert names["loss"].isfinite()
    assert [image.size for image in names["pictures"]] == [(32, 32)]


def test_its_pipelines_sample(names):
    """Without snrise's own code, and with it."""
    made, pipeline = names["images"], names["pipeline"]
    assert [image.size for image in made] == [(32, 32)] * 4
    assert type(pipeline).__module__ == "snrise.interop.pipeline"
    pipeline.set_progress_bar_config(disable=True)
    again = pipeline(4, classes=["heart"], seed=1, guidance_scale=2.0, num_inference_steps=2).images
    assert [a.tobytes() for a in again] == [b.tobytes() for b in made]


def test_its_schedule_is_shifted(names):
    t = torch.linspace(0.1, 0.9, 9)
    base = names["from_diffusers"](names["DDPMScheduler"](beta_schedule="squaredcos_cap_v2"))
    assert_close(names["schedule"](t), base(t) - 2 * torch.log(torch.tensor(4.0)))
    a = names["noise_scheduler"].alphas_cumprod
    assert_close(Tabulated.from_alphas_cumprod(a)(t), names["schedule"](t), rtol=0, atol=1e-2)


def test_its_sigmas_are_those_it_prints(names):
    printed = [float(number) for number in re.findall(r"# \[(.*)\]", TEXT)[0].split(",")]
    assert_close(names["scheduler"].sigmas, torch.tensor(printed), rtol=0, atol=5e-4)


def test_it_names_every_scheduler_and_the_error_that_is_left():
    for kind, name in SCHEDULERS.items():
        assert re.search(rf'\| `"{kind}"` \| `{name}`', TEXT)
    first = for_resolution(Cosine(), (256, 256))(torch.tensor([0.0, 10 / 999]))
    assert_close(first, torch.tensor([12.2, 5.5]), rtol=0, atol=0.05)
