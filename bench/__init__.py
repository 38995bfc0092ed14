"""The harness: every scheme side by side over dataset x architecture x loss, measured, compared, reported."""
