"""The names of the schemes, in the order of the tables; needs no PyTorch, so that a report can be made without it."""

SCHEME_NAMES = (
    "two_stage",
    "two_stage_frozen",
    "two_stage_reused",
    "two_stage_reused_frozen",
    "simultaneous",
    "one_stage",
)
