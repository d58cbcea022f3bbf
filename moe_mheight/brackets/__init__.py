"""Certified bounds of heights.

bounds: the entrance, with the candidate sets that carry a bracket. irls: brackets by reweighted least squares.
budget_search: which sets to solve for where there are too many. solve: many sets of one code at once.
swap_search: long codes without a proof, entered by long_codes; below it search_room, set_solver, light_words and
swap_scores, which says what is tried first, and swap_samples, from which that is learned.
"""
