"""What parts of a quality run are called; needs nothing."""


def part_name(seed: int | None, trial: int | None) -> str:
    """Return what of a variant a job does: a seed, a search, or a trial of one."""
    if seed is not None:
        return f"seed {seed}"
    return "tune" if trial is None else f"trial {trial}"
