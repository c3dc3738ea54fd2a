"""Speak HTTP about searches: REST under ``/api/v1`` and the dashboard. Never loads a model."""
