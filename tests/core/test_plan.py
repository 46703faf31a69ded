"""How a copy is cut into parts, against the bounds that S3 sets; and sets of parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_mirror.plan import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES, NONE, Parts, Plan, plan_for
from cloud_mirror.policy import GIB, MIB, WorkerPolicy

TIB = 1024 * GIB
S3_LARGEST_BYTES = 48 * TIB


@given(st.integers(0, S3_LARGEST_BYTES), st.integers(MIN_PART_BYTES, GIB))
def test_any_known_length_is_cut_into_parts_that_the_store_takes(length: int, part_bytes: int) -> None:
    size = Plan(part_bytes, 1).size_of_part(1, length)
    assert MIN_PART_BYTES <= size <= MAX_PART_BYTES
    assert size >= part_bytes
    assert size * MAX_PARTS >= length
    assert Plan(part_bytes, 1).size_of_part(MAX_PARTS, length) == size


def test_parts_are_as_wanted_where_so_many_suffice() -> None:
    assert Plan(2, 1).size_of_part(1, 4) == 2
    assert Plan(2, 1).size_of_part(1, 2 * MAX_PARTS + 1) == MIB


@given(st.integers(MIN_PART_BYTES, MAX_PART_BYTES), st.integers(1, MAX_PARTS - 1))
def test_parts_of_an_unknown_length_never_shrink(part_bytes: int, number: int) -> None:
    plan = Plan(part_bytes, 1)
    assert part_bytes <= plan.size_of_part(number, None) <= plan.size_of_part(number + 1, None) <= MAX_PART_BYTES


@given(st.integers(MIN_PART_BYTES, MAX_PART_BYTES), st.integers(1, MAX_PARTS), st.integers(0, S3_LARGEST_BYTES))
def test_parts_of_an_unknown_length_grow_only_where_the_longest_object_needs_it(
    part_bytes: int, number: int, longest_bytes: int
) -> None:
    plan = Plan(part_bytes, 1, longest_bytes=longest_bytes)
    if part_bytes * MAX_PARTS >= longest_bytes:
        assert plan.size_of_part(number, None) == part_bytes
    else:
        assert plan.size_of_part(number, None) == Plan(part_bytes, 1).size_of_part(number, None)


def test_the_smallest_parts_of_an_unknown_length_reach_far() -> None:
    plan = Plan(MIN_PART_BYTES, 1)
    assert sum(plan.size_of_part(number, None) for number in range(1, MAX_PARTS + 1)) > 4.8 * TIB


@pytest.mark.parametrize(
    ("part_mib", "budget_mib", "copies", "expected"),
    [
        (16, 512, 16, 16),
        (16, 512, 1, 16),
        (64, 512, 16, 16),
        (64, 512, 4, 64),
        (16, 64, 16, 5),
        (1, 512, 1, 5),
        (16, 512, 0, 16),
    ],
)
def test_copies_find_memory_for_two_parts_each(part_mib: int, budget_mib: int, copies: int, expected: int) -> None:
    worker = WorkerPolicy(part_bytes=part_mib * MIB, memory_budget_bytes=budget_mib * MIB)
    assert plan_for(worker, copies, S3_LARGEST_BYTES) == Plan(expected * MIB, 8, 4, S3_LARGEST_BYTES, 256 * MIB)


@given(st.integers(1, 64), st.integers(10 * MIB, 8 * GIB), st.integers(MIB, GIB))
def test_all_copies_stay_within_the_memory(copies: int, budget: int, part_bytes: int) -> None:
    """Where it can hold two of the smallest parts for each."""
    plan = plan_for(WorkerPolicy(part_bytes=part_bytes, memory_budget_bytes=budget), copies, GIB)
    if budget // copies >= 2 * MIN_PART_BYTES:
        assert copies * plan.part_bytes * 2 <= budget


@given(st.integers(1, 5000), st.integers(1, 10 * MIB))
def test_a_known_length_leaves_parts_as_they_are_where_so_many_hold_it(part_bytes: int, length: int) -> None:
    """Of whatever size: small worlds cut few bytes into parts, and a worker's share of memory is no whole MiB."""
    size = Plan(part_bytes, 1).size_of_part(1, length)
    assert size == part_bytes if length <= 10_000 * part_bytes else size * 10_000 >= length


def test_the_bounds_are_those_of_the_store() -> None:
    assert (MAX_PARTS, MIN_PART_BYTES, MAX_PART_BYTES) == (10_000, 5 * MIB, 5 * GIB)
    assert (MIB, GIB) == (2**20, 2**30)


def test_parts_double_after_each_thousand() -> None:
    plan = Plan(5 * MIB, 1)
    sizes = [plan.size_of_part(number, None) // MIB for number in (1, 1_000, 1_001, 2_000, 2_001)]
    assert sizes == [5, 5, 10, 10, 20]


def test_parts_stay_as_they_are_where_they_just_suffice() -> None:
    assert Plan(5 * MIB, 1, longest_bytes=50_000 * MIB).size_of_part(10_000, None) == 5 * MIB
    assert Plan(5 * MIB, 1, longest_bytes=50_000 * MIB + 1).size_of_part(10_000, None) > 5 * MIB


def test_one_copy_has_the_whole_budget() -> None:
    assert plan_for(WorkerPolicy(part_bytes=64 * MIB, memory_budget_bytes=128 * MIB), 1, GIB).part_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("length", "part_mib"),
    [(0, 256), (256 * MIB, 256), (2_500 * GIB, 256), (2_500 * GIB + 1, 257), (S3_LARGEST_BYTES, 5034)],
)
def test_what_the_store_copies_is_cut_into_large_parts(length: int, part_mib: int) -> None:
    plan = Plan(5 * MIB, 8)
    assert plan.size_of_copied(length) == part_mib * MIB
    assert plan.size_of_part(1, 1) == 5 * MIB


def test_a_plan_fetches_one_part_at_a_time_unless_it_says_more() -> None:
    assert Plan(5 * MIB, 8).fetches_at_once == 1
    assert Plan(5 * MIB, 8).longest_bytes == MAX_PARTS * MAX_PART_BYTES


NUMBERS = st.sets(st.integers(1, 70))


@given(NUMBERS, NUMBERS, st.integers(1, 70))
def test_a_set_of_parts_is_a_set(numbers: set[int], others: set[int], number: int) -> None:
    parts = Parts.of(numbers)
    assert {each for each in range(1, 80) if each in parts} == numbers
    assert len(parts) == len(numbers)
    assert bool(parts) is bool(numbers)
    assert parts | Parts.of(others) == Parts.of(numbers | others)
    assert parts.adding(number) == Parts.of(numbers | {number})
    assert parts.without(number) == Parts.of(numbers - {number})
    assert parts.first_missing == min(set(range(1, 72)) - numbers)


def test_no_parts() -> None:
    assert NONE == Parts() == Parts.of([])
    assert (len(NONE), NONE.first_missing, 0 in NONE) == (0, 1, False)
    assert len(Parts.of(range(1, MAX_PARTS + 1))) == MAX_PARTS
