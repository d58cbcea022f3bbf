"""What each setting of the raw view is worth: rows, their runs, the page. `python benchmarks/ablation --help`."""
