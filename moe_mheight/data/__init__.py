"""Codes in files: read without trust, written whole or not at all.

code_files: many codes with labels. matrix_files: one code, with matrix_market, entries, array_files and safe_pickle
below it. manifests, shards, sources: sets too large for memory. generate: labelled random codes. labelling: labels and
their audit.
"""
