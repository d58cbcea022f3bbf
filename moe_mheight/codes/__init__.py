"""What a code is.

linear: G, H and P, and what each must be. forms: which of them a matrix is. minors: its k x k minors with bounds on
their rounding. distance: the minimum distance by rank. automorphisms: permutations of coordinates that keep the code;
automorphism_groups: all that they generate, and rounding. generators: random codes of many kinds.
"""
