"""The shipped model sets, one folder each: `default`, the one that `Predictor.load()` takes, and `raw`, of raw P;
and `criteria`, files of success criteria."""
