"""What is concluded: pure functions of a run's rows, with their intervals, verdicts and doubts. Needs no PyTorch."""
