"""The `mheight` command line: one file per noun, no mathematics."""
