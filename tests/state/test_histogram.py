"""Commit latencies in buckets."""

import pytest

from holdfast.state.histogram import BOUNDS_US, Histogram


@pytest.mark.parametrize("bucket", range(len(BOUNDS_US)))
def test_a_bound_belongs_to_its_bucket_and_the_next_value_to_the_next(bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(BOUNDS_US[bucket])
    histogram.observe(BOUNDS_US[bucket] + 1)
    assert histogram.counts[bucket : bucket + 2] == [1, 1]


def test_extremes_have_a_bucket_too() -> None:
    histogram = Histogram()
    histogram.observe(0)
    histogram.observe(10**9)
    assert histogram.counts[0] == histogram.counts[-1] == 1
    assert (histogram.count, histogram.total_us, histogram.highest_us) == (2, 10**9, 10**9)


def test_quantiles_are_upper_bounds() -> None:
    histogram = Histogram()
    assert histogram.quantile_us(0.99) == 0
    for duration in range(100, 10_100, 100):
        histogram.observe(duration)
    assert 5_000 <= histogram.quantile_us(0.5) <= 6_400
    assert histogram.quantile_us(1.0) == 10_000
