"""The experts together.

predictor: routes, asks and combines. router, router_training: gate weights by (k, m). explain: all about one code.
gradients, differentiable: where a code should move. estimators: scikit-learn. onnx: experts without torch.
"""
