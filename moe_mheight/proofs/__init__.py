"""Heights with a proof, and its check.

certify: the proof. repair: what float64 left open, in fractions. set_orbits: sets of columns up to automorphisms.
certificate_format: a parsed certificate. verify: the check, which knows nothing of the solver; row_reduction,
automorphism_check, dual_bounds and hitting_set_check are its steps.
"""
