"""One model in several processes: gradients averaged, groups, seeds and gathers."""
