"""How right predictions are.

scoring: figures of each group. criteria: which of them must be met. bottom_k: single codes that stand for many.
long_codes: the same for long codes that ship with the package, their heights proven.
figures, charts, report: the page to read.
"""
