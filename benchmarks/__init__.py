"""Speed, stated as ratios measured in one run. Not part of the tests: timings are noisy."""
