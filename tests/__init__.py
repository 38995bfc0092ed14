"""A package, so that no other package of this name (torch-fidelity installs one) stands in for it."""
