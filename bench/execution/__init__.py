"""How jobs get done: the runner, one case, one training, their processes, a budget of time, a Ray cluster."""
