"""Records on disk: a journal that survives a kill, Parquet made of it, payloads, retention, sinks and queries."""
