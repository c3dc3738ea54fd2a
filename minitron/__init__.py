"""Compress one Hugging Face causal language model: measure, plan, prune, distil, evaluate.

Knows no search, no worker and no HTTP. Reading order: ``architecture``, ``families``, ``recipe``,
``parents`` (all free of torch), then ``checkpoint``, ``data``, ``importance``, ``depth``, ``plan``,
``prune``, ``teacher``, ``losses``, ``train``, ``evaluate``. Nothing is re-exported here, so that
importing the vocabulary never imports torch.
"""
