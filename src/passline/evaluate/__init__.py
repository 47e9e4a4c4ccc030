"""What a policy is worth on data it never saw: slices, rollouts, baselines, statistics."""
