"""Exact heights.

heights: the entrance, height_profile and m_height. given: integers and fractions as they are. result: what is told of a
height. choice and cost_model: the quickest way. enumeration: batches, all m, n <= 16. single_height: one m of one code,
n <= 20. bases: whichever of these is quicker. witness: codewords that attain a height. distance: the minimum distance.
branch_and_bound: long codes, from first_words, with parts, all_targets, hitting_set and orbits below it; for m = r
basis_walk, from its start_table; before trees coverings, covering_tables, covering_bound and covered_search, or
relaxations.
"""
