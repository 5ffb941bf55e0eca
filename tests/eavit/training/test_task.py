"""Spent: a ledger that can be read, and passes on."""

from contextlib import contextmanager

from eavit.training.task import Spent


def test_spent_remembers_and_passes_on():
    opened = []

    class Books(Spent):
        @contextmanager
        def phase(self, name):
            opened.append(name)
            yield

    books = Books()
    spent = Spent(onward=books)
    with spent.phase("x"):
        spent.add(forward_macs=2, backward_macs=3, images=4, steps=1)
        spent.add(**Spent(1, 1).amounts)
    assert spent.macs == books.macs == 7 and opened == ["x"]
    assert spent == Spent(3, 4, 4, 1) and spent.amounts == books.amounts
    with Spent().phase("alone"):
        pass
