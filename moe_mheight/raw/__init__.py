"""The raw view: networks that read (n, k, m, P) itself, as peers train them, and what their settings are worth.

`recipe` says what can be set, `augmentation` and `data` make what is learnt from, `networks` reads it, `monitor`
measures every epoch, `training` trains, `models` keeps and loads. benchmarks/ablation compares recipes.
"""
