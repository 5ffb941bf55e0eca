"""Stand-ins for the entry point of a check, light and in every mood."""

from __future__ import annotations

import os
import time
from typing import Any


def check_part(request: dict[str, Any]) -> dict[str, Any]:
    """By the name of a method: what it says, or how it ends."""
    kind, *index = request["part"]
    found = {"faults": [], "fatal": False, "warnings": [], "notes": [], "card": {}}
    if kind != "methods":
        return found
    word = ("good", "exits", "raises", "hangs", "wrong", "lost")[index[0]]
    if word == "exits":
        print("a last word", flush=True)
        os._exit(0)
    if word == "raises":
        raise KeyboardInterrupt
    if word == "hangs":
        time.sleep(60)
    return {
        "good": {**found, "card": {"title": "Good"}, "warnings": ["budgets 0.2 cannot be reached"]},
        "wrong": {**found, "faults": ["one", "two"], "fatal": True},
        "lost": {**found, "faults": ["three"]},
    }[word]
