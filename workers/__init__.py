"""Run the trials of a search on Ray; the only package that imports ray and mlflow.

Started as ``python -m workers`` by ``nas run`` and ``nas serve``, one process for each active search.
"""
