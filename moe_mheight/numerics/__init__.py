"""What the solvers stand on: compiled kernels and exact arithmetic, none of it about codes.

jit: how kernels are compiled, kept on disk and spread over threads; linking: how one calls the other's machine code;
typing_memory: what numba need not find out twice. bitsets: sets of coordinates as 64-bit masks.
least_squares: small linear algebra, a code a lane. swaps and pair_swaps: local search over sets.
rounding: sums rounded outwards. rationals: matrices of fractions. simplex_tableau: a basis of a code, walked by pivots;
certified: what holds of it.
"""
