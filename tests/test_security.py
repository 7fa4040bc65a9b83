"""Nothing that is read can run code or write outside of its folder."""

import re
from pathlib import Path

import pytest

from snrise._errors import SnriseError
from snrise.documents import read_document
from snrise.training import read_header

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
#: What would load pickled or other code.
LOADS = (
    r"\bpickle\b", r"\bcloudpickle\b", r"\bdill\b", r"\bshelve\b", r"\bmarshal\b", r"\bjoblib\b", r"torch\.load\(",
    r"allow_pickle\s*=\s*True", r"yaml\.(unsafe_|full_)?load(_all)?\((?!text, Loader=_Loader\))", r"(?<!\.)\beval\(",
    r"\bexec\(", r"trust_remote_code\s*=\s*True", r"\.extract(all)?\(", r"shell\s*=\s*True",
)


#: By file: weights in packages that others made, and the claims' own trainings of peers, as PyTorch's files, read as
#: tensors alone, which refuses everything else; and what the model card shows, a text.
KNOWN = {
    "metrics/perception.py": 'torch.load(file, map_location="cpu", weights_only=True)',
    "claims/peers/training.py": "torch.load(file, weights_only=True)",
    "sharing/card.py": """f'pipeline = DiffusionPipeline.from_pretrained("{repository}", trust_remote_code=True)\\n'""",
}


def calls(text):
    """A source without docstrings and comments."""
    return re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.DOTALL)


def test_nothing_loads_code():
    assert len(FILES) > 50
    texts = [(p.as_posix(), calls(p.read_text("utf-8"))) for p in FILES]
    for file, call in KNOWN.items():
        assert [text.count(call) for name, text in texts if name.endswith(file)] == [1]
        texts = [(name, text.replace(call, "") if name.endswith(file) else text) for name, text in texts]
    assert [(name, m[0]) for name, text in texts for rule in LOADS for m in re.finditer(rule, text)] == []


@pytest.mark.parametrize("line", [
    "import pickle", "torch.load(path)", "torch.load(path, weights_only=True)", "yaml.load(text, Loader=yaml.Loader)",
    "yaml.load(text)", "np.load(f, allow_pickle=True)", "eval(x)", "tar.extractall()",
])
def test_the_rules_find_what_they_are_for(line):
    assert any(re.search(rule, calls(line)) for rule in LOADS)


@pytest.mark.parametrize("text", [
    "name: !!python/object/apply:pathlib.Path.touch [touched]", "name: !!python/name:os.system",
    "!!python/object/new:os.system [touch touched]", "name: &a [*a]",
])
def test_yaml_cannot_run_code(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(text)
    with pytest.raises(SnriseError, match=r"bad\.yaml: not YAML"):
        read_document("bad.yaml")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_pickle_that_calls_itself_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.safetensors").write_bytes(b"cpathlib\nPath.touch\n(cpathlib\nPath\n(S'touched'\ntRtR.")
    with pytest.raises(SnriseError, match="not a whole checkpoint"):
        read_header(Path("bad.safetensors"))
    assert not Path("touched").exists()
