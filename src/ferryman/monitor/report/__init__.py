"""What became of a time range: gathered from records and the diary, written as one page or as JSON."""
