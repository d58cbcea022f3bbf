"""How right predictions are.

scoring: figures of each group. criteria: which of them must be met. bottom_k: single codes that stand for many.
figures, charts, report: the page to read.
"""
