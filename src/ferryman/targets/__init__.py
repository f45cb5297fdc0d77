"""Where a bundle runs: each target renders its files, plans what would change, applies, reports and removes."""
