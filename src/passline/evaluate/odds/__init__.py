"""Odds of passing and of being paid, by resampling the days that were traded."""
