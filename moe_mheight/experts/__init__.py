"""The expert networks on brackets.

network: what an expert reads and says. batches: training codes without end. rng_streams: which codes are whose.
training, checkpoints: how a tier is trained. conformal: intervals that cover. model_store, model_card: a tier's folder.
provenance: where something was made.
torch_threads: torch among our threads.
"""
