"""One model in several processes: gradients averaged, groups, seeds and gathers, and a model of how it scales."""
