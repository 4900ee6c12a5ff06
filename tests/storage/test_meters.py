from stepwell_storage.meters import Distribution, Meters


def test_a_value_on_a_bound_counts_above_it():
    distribution = Distribution((1, 2, 4))
    for value in (0.5, 1, 1.5, 2, 4, 5, 1e9):
        distribution.add(value)
    assert distribution.counts == [2, 2, 1, 2]
    assert distribution.sum == 0.5 + 1 + 1.5 + 2 + 4 + 5 + 1e9


def test_two_stores_share_their_numbers():
    first, second = Meters(), Meters()
    first.commit_seconds.add(1.0)
    assert sum(second.commit_seconds.counts) == 0
