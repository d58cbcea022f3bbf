"""Everything that draws with matplotlib, but for pages and raw views that draw their own.

style: colours, sizes and files of pictures. plots: pictures of trainings and predictions.
"""
