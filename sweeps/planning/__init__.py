"""What a study would take before anything is spent: known points, time, cost, what early stopping would save."""
