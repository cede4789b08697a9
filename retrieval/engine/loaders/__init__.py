"""Builders of the registry's networks, one module for each library that they need.

None of them executes code from a model's repository, and none unpickles: weights are read from
safetensors, or by torch's reader that lets nothing but tensors out of a pickle.
"""
