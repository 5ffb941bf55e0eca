"""Names of the sanity checks, and where records and points keep their outcome. Needs no torch."""

from __future__ import annotations

CHANCE = "above chance"
MAJORITY = "above the majority class"
BATCHES = "same predictions for batch 1 and 64"
OVERFIT = "one batch can be overfitted"
SLICED = "exported module equals the sliced one"
FULL = "full size within 1 point of a plain fine-tune"
PROBE = "full size not below its own linear probe"
GROWING = "accuracy does not fall as the budget grows"
SANITY_CHECKS = (CHANCE, MAJORITY, BATCHES, OVERFIT, SLICED, FULL, PROBE, GROWING)
REASONS = {  # part of a point's reason -> the check that failed
    "is not above chance": CHANCE,
    "is not above the majority class": MAJORITY,
    "predictions differ between batch 1 and 64": BATCHES,
}
# Key in a record's diagnostics: check -> "" where it passed, else the reason; absent: not run. Old records have it too.
DIAGNOSTICS_KEY = "sanity_ladder"
