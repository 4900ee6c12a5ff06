"""How long and how large each benchmark is, in its full and its quick form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    quick: bool = False
    seconds: float = 2.0
    """Of one round of a load; single steps take twice as long."""
    rounds: int = 5
    """Ours and the baseline alternate that often; each figure is the median."""
    warm_seconds: float = 0.5
    sizes: tuple[int, ...] = (1, 10, 1_000, 10_000)
    clients: tuple[int, ...] = (1, 16, 64)
    wide_seconds: float = 20.0
    series_points: int = 1_000_000
    series_count: int = 50
    reads: int = 20
    mixed_rounds: int = 3
    few_runs: int = 5_000
    many_runs: int = 100_000
    searches: int = 40
    disk_points: int = 2_000_000
    calm_seconds: float = 10.0
    """How long file sizes must have stood still before they are read."""
    growth_points: int = 10_000_000
    deletion_points: int = 10_000_000
    import_points: int = 1_000_000
    sustained_seconds: float = 60.0
    starts: int = 5
    tenants: int = 2_000
    active_tenants: int = 200


FULL = Plan()
QUICK = Plan(
    quick=True,
    seconds=0.4,
    rounds=1,
    warm_seconds=0.1,
    sizes=(1, 1_000),
    clients=(1, 16),
    wide_seconds=2.0,
    series_points=100_000,
    series_count=5,
    reads=5,
    mixed_rounds=1,
    few_runs=500,
    many_runs=2_000,
    searches=10,
    disk_points=200_000,
    calm_seconds=2.0,
    growth_points=500_000,
    deletion_points=1_000_000,
    import_points=100_000,
    sustained_seconds=3.0,
    starts=1,
    tenants=60,
    active_tenants=20,
)
