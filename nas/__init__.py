"""Decide what to try next under a budget: spec, space, proposer, driver, store, command line.

Loads neither torch, transformers nor ray; of ``minitron`` it sees only the torch-free vocabulary.
"""
