"""How many training tokens each way of searching needs, replayed on tables of what really came of every architecture."""
