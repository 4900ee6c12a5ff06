"""To and from other trackers' stores, without their code."""
