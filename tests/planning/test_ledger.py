import torch

from snrise.planning.ledger import Ledger


def test_a_ledger_counts_memory_once_and_until_nobody_holds_it():
    with Ledger() as ledger:
        x = torch.zeros(100)
        half, again = x[:50], x.view(10, 10)
        assert ledger.bytes == 400
        ledger.part = "later"
        y = x + 1
        assert (ledger.bytes, ledger.by_part["later"]) == (800, 400)
        del x, half
        assert ledger.bytes == 800
        del again
        assert (ledger.bytes, ledger.peak) == (400, 800)
        ledger.begin(lambda size: 2.0 * size)
        del y
        z = torch.zeros(25)
    assert (ledger.bytes, ledger.peak) == (100, 400)
    del z


def test_a_ledger_counts_matrix_products():
    with Ledger() as ledger:
        torch.zeros(3, 4) @ torch.zeros(4, 5)
    assert ledger.flops == 2 * 3 * 4 * 5
