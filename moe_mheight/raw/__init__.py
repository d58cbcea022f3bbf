"""The raw view: networks that read (n, k, m, P) itself, as the field trains them, and what their settings are worth.

`recipe` says what can be set, `augmentation` and `data` make what is learnt from, `networks` reads it, `monitor`
measures every epoch, `training` trains, `models` keeps and loads, `ablation` compares recipes and `page` writes what
came out.
"""
