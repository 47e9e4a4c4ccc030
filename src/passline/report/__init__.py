"""What a run shows of itself: scalars, figures and the page, all from the run's own files."""
