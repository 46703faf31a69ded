"""What was heard is not forgotten; what may have been missed counts as heard."""

from cloud_mirror.wire.notices import NoticeBoard


def test_a_notice_is_later_than_the_sequence_before_it_and_not_than_its_own() -> None:
    board = NoticeBoard()
    before = board.sequence
    assert not board.is_later("a", before)
    board.heard("a")
    assert board.is_later("a", before)
    assert not board.is_later("a", board.sequence)
    assert not board.is_later("b", before)


def test_a_key_that_is_named_again_is_later_again() -> None:
    board = NoticeBoard()
    board.heard("a")
    between = board.sequence
    board.heard("b")
    assert not board.is_later("a", between)
    board.heard("a")
    assert board.is_later("a", between)


def test_what_may_have_been_missed_counts_as_heard_of_every_key() -> None:
    board = NoticeBoard()
    board.heard("a")
    before = board.sequence
    board.lost()
    assert board.is_later("a", before)
    assert board.is_later("never named", before)
    assert not board.is_later("a", board.sequence)


def test_forgetting_counts_as_having_heard() -> None:
    board = NoticeBoard(remembered=2)
    before = board.sequence
    for key in ("a", "b", "a", "c"):
        board.heard(key)  # forgets b, which was named longest ago
    assert board.is_later("a", before)
    assert board.is_later("b", before)
    assert board.is_later("never named", before)
    assert not board.is_later("never named", 2)
    assert board.is_later("a", 2)
    assert not board.is_later("a", 3)
