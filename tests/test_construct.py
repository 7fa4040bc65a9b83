import dataclasses
import datetime
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import GRIDS, OPTIMIZERS, PROCESSES, SAMPLERS, SCHEDULES, WEIGHTINGS
from snrise._errors import SnriseError
from snrise._typing import Size
from snrise.codecs import DC, KL, VQ, Architecture, Autoencoder, Codec, Grey, Pixels
from snrise.construct import TABLES, construct, kind_of, plain
from snrise.data import EmojiConfig, ExternalConfig, FolderConfig, HubConfig, ShardsConfig, SourceConfig
from snrise.denoisers import Clipped as Clipped_
from snrise.denoisers import Guided, Projected, Wrapper
from snrise.networks import External, Level, NetworkConfig, UViTConfig
from snrise.optimizers import Optimizer
from snrise.process import Process, VariancePreserving
from snrise.rates import CosineDecay, Decay, LinearDecay, SqrtDecay
from snrise.samplers import Grid, Sampler
from snrise.schedules import Clipped, Cosine, Interpolated, Schedule, Shifted, UniformLogSnr
from snrise.weightings import MinSnr, Weighting
from tiny import NETWORKS

EXAMPLES = {
    Schedule: {name: list(of.values()) for name, of in SCHEDULES.items()},
    Weighting: {name: [example] for name, (example, _) in WEIGHTINGS.items()},
    Process: {name: list(of.values()) for name, of in PROCESSES.items()},
    Sampler: {name: list(of.values()) for name, of in SAMPLERS.items()},
    Grid: {name: list(of.values()) for name, of in GRIDS.items()},
    SourceConfig: {
        "emoji": [EmojiConfig(classes="class", only=("flags",))], "folder": [FolderConfig(path="photos")],
        "shards": [ShardsConfig(path="a.tar", classes="cls")], "hub": [HubConfig(path="mnist", split="test")],
        "external": [ExternalConfig(path="mine.Data")],
    },
    Codec: {
        "pixels": [Pixels()], "grey": [Grey()],
        "diffusers": [Autoencoder(path="a"), Autoencoder(path="b", mean=(0.5, 1.0), std=(2.0, 3.0), weights="c")],
    },
    Architecture: {"kl": [KL(), KL(width=8, multipliers=(1, 2), divergence=0.5)], "vq": [VQ(book=8)],
                   "dc": [DC(), DC(full=1)]},
    Decay: {"linear": [LinearDecay()], "cosine": [CosineDecay()], "one_minus_sqrt": [SqrtDecay()]},
    Wrapper: {
        "guided": [Guided(scale=2.0, interval=(-3.0, 5.0), rescale=0.7)], "clipped": [Clipped_(high=2.0)],
        "projected": [Projected(scale=3.0), Projected(scale=3.0, parallel=0.5, limit=10.0)],
    },
    Optimizer: {name: list(of.values()) for name, of in OPTIMIZERS.items()},
    NetworkConfig: {name: list(of.values()) for name, of in NETWORKS.items()} | {
        "external": [External(type="mine.Network")]},
}
MEMBERS = [
    pytest.param(interface, name, example, id=f"{interface.__name__}.{name}.{i}")
    for interface, table in EXAMPLES.items() for name, examples in table.items() for i, example in enumerate(examples)
    if not callable(getattr(example, "rho", None))
]


def test_every_member_of_every_table_has_an_example():
    assert {interface: set(table) for interface, table in TABLES.items()} == {
        interface: set(table) for interface, table in EXAMPLES.items()
    }


@pytest.mark.parametrize(("interface", "name", "example"), MEMBERS)
def test_a_member_survives_plain_data(interface, name, example):
    data = plain(example)
    assert data["kind"] == name == kind_of(example)
    assert construct(interface, data, "here") == example

    def is_plain(value):
        match value:
            case dict():
                return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
            case list():
                return all(map(is_plain, value))
        return type(value) in (str, int, float, bool, type(None))

    assert is_plain(data)


@pytest.mark.parametrize("interface", TABLES)
def test_an_unknown_kind_names_the_nearest(interface):
    table = TABLES[interface]
    name = min(table)
    with pytest.raises(SnriseError, match=rf"^here\.kind: no such kind '{name}x'; did you mean '.+'\? allowed: "):
        construct(interface, {"kind": f"{name}x"}, "here")


@pytest.mark.parametrize("kind", [None, 3, ["vp"], {"a": 1}, True])
def test_a_kind_is_text(kind):
    with pytest.raises(SnriseError, match=r"^here\.kind: no such kind"):
        construct(Process, {"kind": kind}, "here")


@pytest.mark.parametrize("data", [3, [], {}, {"rho": 1}, None, 1.5])
def test_a_member_needs_a_kind(data):
    with pytest.raises(SnriseError, match=r"^here: got .*; allowed: settings with a kind: relaxed, straight, ve, vp$"):
        construct(Process, data, "here")


def test_a_bare_name_is_a_member_with_its_defaults():
    assert construct(Process, "vp", "here") == VariancePreserving()
    assert construct(Schedule, "cosine", "here") == Cosine()


def test_members_nest():
    data = {"kind": "interpolated", "clean": "cosine",
            "noisy": {"kind": "shifted", "factor": 2, "base": {"kind": "uniform_logsnr", "logsnr_min": -9}}}
    assert construct(Schedule, data, "here") == Interpolated(
        clean=Cosine(), noisy=Shifted(base=UniformLogSnr(logsnr_min=-9.0), factor=2.0)
    )


@pytest.mark.parametrize(("data", "message"), [
    ({"kind": "cosine", "ofset": 1}, "here.ofset: no such setting 'ofset'; did you mean 'offset'?"),
    ({"kind": "shifted", "factor": 2}, "here.base: missing; give it a value"),
    ({"kind": "shifted", "base": "cosine", "factor": -1}, "here.factor: got -1.0; allowed: a number above 0"),
    ({"kind": "shifted", "factor": 2, "base": {"kind": "cosine", "logsnr_min": "low"}},
     "here.base.logsnr_min: got 'low'; allowed: a valid number"),
    ({"kind": "shifted", "factor": 2, "base": {"kind": "shifted", "factor": 0, "base": "cosine"}},
     "here.base.factor: got 0.0"),
    ({"kind": "cosine", "logsnr_min": 9, "logsnr_max": 3}, "here.logsnr_min: got 9.0; allowed: a number below"),
    ({"kind": "tabulated", "logsnrs": [1, "a"]}, "here.logsnrs[1]: got [1, 'a']; allowed: a valid number"),
    ({"kind": "tabulated", "logsnrs": [1]}, "here: Tabulated: got '1 entries'"),
    ({"kind": "tabulated", "logsnrs": [1, 2]}, "here: Tabulated[1]: got 2.0"),
    ({"kind": "cosine", "offset": math.nan}, "here.offset: got nan; allowed: a finite number"),
    ({"kind": "cosine", "offset": -math.inf}, "here.offset: got -inf; allowed: a finite number"),
    ({"kind": "cosine", "offset": 10**400}, "here.offset: got 1000"),
    ({"kind": "cosine", "offset": datetime.date(2024, 1, 1)}, "here.offset: got datetime.date(2024, 1, 1); allowed:"),
    ({"kind": "cosine", 3: 1}, "here.3: no such setting 3"),
])
def test_a_mistake_is_told_with_its_path(data, message):
    with pytest.raises(SnriseError) as error:
        construct(Schedule, data, "here")
    assert str(error.value).startswith(message), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("data", "message"), [
    ({"kind": "uvit", "levels": 3}, "net.levels: got 3; allowed: a list"),
    ({"kind": "uvit", "levels": [3]}, "net.levels[0]: got 3; allowed: settings, each `name: value`"),
    ({"kind": "uvit"}, "net.levels: missing"),
    ({"kind": "uvit", "levels": []}, "net.levels: got (); allowed: one level or more"),
    ({"kind": "uvit", "levels": [{"channels": 8, "blocks": 1}, {"channels": 8}]}, "net.levels[1].blocks: missing"),
    ({"kind": "uvit", "levels": [{"channels": 8, "blocks": 1, "chanels": 8}]},
     "net.levels[0].chanels: no such setting 'chanels'; did you mean 'channels'?"),
    ({"kind": "uvit", "levels": [{"channels": 8, "blocks": 1, "kind": "convv"}]},
     "net.levels[0].kind: no such choice 'convv'; did you mean 'conv'? allowed: conv, local, transformer"),
    ({"kind": "uvit", "levels": [{"channels": 8, "blocks": 1, "kind": 3}]},
     "net.levels[0].kind: got 3; allowed: one of conv, local, transformer"),
    ({"kind": "uvit", "levels": [{"channels": 8, "blocks": 1, "dropout": 2}]}, "net.levels[0].dropout: got 2.0"),
    ({"kind": "uvit", "levels": [{"channels": 8.5, "blocks": 1}]}, "net.levels[0].channels: got 8.5; allowed: a valid"),
    ({"kind": "uvit", "levels": [{"channels": True, "blocks": 1}]}, "net.levels[0].channels: got True"),
    ({"kind": "uvit", "levels": [{"channels": "8", "blocks": 1}]}, "net.levels[0].channels: got '8'"),
    ({"kind": "uvit", "levels": [{"channels": 8, "blocks": 1}], "stem": None}, "net.stem: got None"),
])
def test_a_mistake_in_a_list_is_told_with_its_number(data, message):
    with pytest.raises(SnriseError, match=re.escape(message)):
        construct(NetworkConfig, data, "net")


def test_nothing_is_coerced_but_whole_numbers_to_numbers():
    level = construct(Level, {"channels": 8, "blocks": 1, "dropout": 0}, "level")
    assert (level.dropout, type(level.dropout)) == (0.0, float)
    assert construct(UViTConfig, {"levels": [{"channels": 8, "blocks": 1}]}, "net").levels[0].channels == 8
    assert construct(Size, [3, 4], "size") == (3, 4)
    for wrong in ([3], [3, 4, 5], [3.0, 4], "34", {"a": 3}, 3, None, [True, 4]):
        with pytest.raises(SnriseError, match=r"^size"):
            construct(Size, wrong, "size")


def test_settings_without_a_kind_are_for_the_default():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Both:
        weighting: Weighting = MinSnr(gamma=2.0)
        schedule: Schedule | None = None

    assert construct(Both, {"weighting": {"gamma": 3}}, "here") == Both(weighting=MinSnr(gamma=3.0))
    assert construct(Both, {"weighting": "constant"}, "here").weighting != MinSnr(gamma=2.0)
    assert construct(Both, {"schedule": None}, "here") == Both()
    with pytest.raises(SnriseError, match=r"^here\.schedule: .* settings with a kind"):
        construct(Both, {"schedule": {"offset": 1}}, "here")


def test_a_limit_may_be_infinite_only_where_it_is_by_itself():
    assert plain(Clipped(base=Cosine()))["logsnr_min"] == -math.inf
    data = {"kind": "clipped", "base": "cosine", "logsnr_min": -math.inf}
    assert construct(Schedule, data, "here") == Clipped(base=Cosine())
    with pytest.raises(SnriseError, match=r"^here\.logsnr_min: got inf; allowed: a finite number"):
        construct(Schedule, data | {"logsnr_min": math.inf}, "here")


def test_data_that_hold_themselves_are_refused():
    loop = {"kind": "shifted", "factor": 2}
    loop["base"] = loop
    with pytest.raises(SnriseError, match=r"^here: nested too deeply$"):
        construct(Schedule, loop, "here")
    circle = []
    circle.append(circle)
    with pytest.raises(SnriseError, match=r"^here: got"):
        construct(Size, circle, "here")


def value_or_error(function, *arguments):
    """What a function gives, or the text of the one error that it may raise."""
    try:
        return function(*arguments)
    except SnriseError as error:
        return str(error)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["kind", "base", "factor", "levels", "logsnrs", "rho", "channels", "blocks"])
        | st.text(max_size=3) | st.none() | st.integers(), inner, max_size=4,
    ),
    max_leaves=12,
)


@given(interface=st.sampled_from(list(TABLES)), kind=st.none() | st.sampled_from(
    sorted({name for table in TABLES.values() for name in table})), data=ANYTHING)
def test_random_data_give_a_value_or_the_one_error(interface, kind, data):
    if kind is not None and isinstance(data, dict):
        data = {"kind": kind} | {k: v for k, v in data.items() if k != "kind"}
    value = value_or_error(construct, interface, data, "here")
    assert re.fullmatch("here.*", value) if isinstance(value, str) else kind_of(value)
