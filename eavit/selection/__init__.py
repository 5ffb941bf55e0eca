"""Selection: from trained weights to a policy that maps a budget to a submodel."""
