"""Training: tasks, samplers, losses, step plans, the training loop, checkpoints and compute allocation."""
