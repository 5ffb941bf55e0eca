"""The rungs of the sanity ladder by name, and the words in which a cell tells a report of them."""

from __future__ import annotations

CHANCE = "above chance"
MAJORITY = "above the majority class"
BATCHES = "same predictions for batch 1 and 64"
OVERFIT = "one batch can be overfitted"
SLICED = "exported module equals the sliced one"
FULL = "full size within 1 point of a plain fine-tune"
GROWING = "accuracy does not fall as the budget grows"
RUNGS = (CHANCE, MAJORITY, BATCHES, OVERFIT, SLICED, FULL, GROWING)
SAID = {  # part of a point's reason -> the rung that failed
    "is not above chance": CHANCE,
    "is not above the majority class": MAJORITY,
    "predictions differ between batch 1 and 64": BATCHES,
}
KEPT = "sanity_ladder"  # in a record's diagnostics: rung -> "" where it passed, else why it failed; absent: not run
