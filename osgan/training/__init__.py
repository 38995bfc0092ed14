"""A training run: its recipe, the loop that takes its steps through an engine, trainer, checkpoints, scaling."""
