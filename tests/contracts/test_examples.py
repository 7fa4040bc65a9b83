import pickle

import pytest

import examples
from snrise import optimizers, process, samplers, schedules, weightings


@pytest.mark.parametrize(("table", "shown"), [
    (process.PROCESSES, examples.PROCESSES),
    (schedules.SCHEDULES, examples.SCHEDULES),
    (weightings.WEIGHTINGS, {name: {name: example} for name, (example, _) in examples.WEIGHTINGS.items()}),
    (samplers.SAMPLERS, examples.SAMPLERS),
    (samplers.GRIDS, examples.GRIDS),
    (optimizers.OPTIMIZERS, examples.OPTIMIZERS),
], ids=["processes", "schedules", "weightings", "samplers", "grids", "optimizers"])
def test_every_member_has_an_example(table, shown):
    assert set(shown) == set(table)
    for name, instances in shown.items():
        assert instances
        assert all(type(instance) is table[name] for instance in instances.values())


@pytest.mark.parametrize("instance", [
    *examples.flat(examples.SCHEDULES), *examples.flat(examples.SAMPLERS),
    *(pytest.param(weight, id=name) for name, (weight, _) in examples.WEIGHTINGS.items()),
    *examples.flat(examples.PROCESSES), *examples.flat(examples.GRIDS),
    *examples.flat(examples.OPTIMIZERS),
])
def test_a_member_is_a_value(instance):
    """Printed, compared, hashed, copied by pickle."""
    copy = pickle.loads(pickle.dumps(instance))
    assert copy == instance
    assert hash(copy) == hash(instance)
    assert repr(instance).startswith(type(instance).__name__)
