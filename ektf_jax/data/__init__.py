"""From raw files to encoded datasets, and from encoded datasets to batches."""
