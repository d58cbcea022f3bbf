"""The shipped model sets: one folder each, `default` is the one that `Predictor.load()` takes."""
