"""Which held-out loss this version measures. Free of torch, so that whoever compares stored losses can ask."""

LOSS_VERSION = 1
"""Raised when ``minitron.evaluate`` would tell another loss of the same model on the same blocks. Losses of different
versions are never compared, reused or begun from; what was stored before there were any is of version 1."""
