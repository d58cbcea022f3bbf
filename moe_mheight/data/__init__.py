"""Codes in files: read without trust, written whole or not at all.

rows: codes in memory. code_files: many codes with labels; npz_files, safe_pickle and array_files are below it.
matrix_files: one code, with matrix_market and entries. manifests, shards, sources: sets too large for memory.
generate: labelled random codes. drawn_labels: labels of codes that a seed draws again. labelling: labels and their
audit.
"""
