"""Exact heights.

heights: the entrance, height_profile and m_height. result: what a search tells. enumeration: all sets, n <= 16.
witness: codewords that attain a height. distance: the minimum distance. branch_and_bound: long codes, with
all_targets, hitting_set and simplex_tableau below it; for m = r basis_walk; before trees coverings, covering_bound and
covered_search, or relaxations.
"""
