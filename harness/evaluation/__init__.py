"""What is measured of an adapted model, what was spent, and what is doubtful about it."""
