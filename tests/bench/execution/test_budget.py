import pytest

from bench.execution.budget import Piece, PieceOver


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def _jobs(piece, clock, took, kind="case", planned_s=100.0):
    """Do jobs that take so long each; returns how many were begun before the piece was over."""
    for index, seconds in enumerate(took):
        try:
            piece.begin(kind, planned_s)
        except PieceOver:
            return index
        clock.now += seconds
        piece.finished(kind, seconds)
    return len(took)


def test_without_a_time_a_run_is_one_piece(clock):
    piece = Piece(None, clock)
    assert _jobs(piece, clock, [1e6] * 5) == 5
    assert not piece.over


def test_no_job_is_begun_that_would_end_too_late(clock):
    piece = Piece(350.0, clock)
    assert _jobs(piece, clock, [100.0] * 9) == 3
    assert piece.over
    assert clock.now - piece.start <= 350.0


def test_a_job_that_ends_on_the_second_fits(clock):
    assert _jobs(Piece(300.0, clock), clock, [100.0] * 9) == 3


def test_the_longest_so_far_counts_not_the_plan(clock):
    assert _jobs(Piece(500.0, clock), clock, [50.0] * 20, planned_s=200.0) == 10
    # 40, 160, 40: with 160 s as the longest a fourth would end after 400 s
    assert _jobs(Piece(350.0, clock), clock, [40.0, 160.0, 40.0, 40.0], planned_s=1.0) == 2


def test_pieces_before_this_one_count(clock):
    piece = Piece(500.0, clock)
    piece.saw("case", 200.0)
    assert _jobs(piece, clock, [100.0] * 9) == 4


def test_a_job_that_was_skipped_says_nothing_of_the_others(clock):
    piece = Piece(150.0, clock)
    piece.saw("case", None)
    assert _jobs(piece, clock, [100.0] * 9, planned_s=100.0) == 1


def test_one_job_is_done_however_short_the_piece(clock):
    piece = Piece(0.0, clock)
    assert _jobs(piece, clock, [100.0] * 9) == 1
    assert piece.over


def test_kinds_have_times_of_their_own(clock):
    piece = Piece(500.0, clock)
    assert _jobs(piece, clock, [400.0]) == 1
    assert _jobs(piece, clock, [30.0] * 2, kind="quality", planned_s=None) == 2
    assert _jobs(piece, clock, [30.0], kind="case") == 0


def test_a_kind_of_unknown_length_is_begun(clock):
    piece = Piece(500.0, clock)
    assert _jobs(piece, clock, [100.0], kind="case") == 1
    assert _jobs(piece, clock, [390.0, 390.0], kind="quality", planned_s=None) == 1
