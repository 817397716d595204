"""The recorder: daily rolled CSV files, every reading once."""
