"""What REST answers with: explicit, so that the domain can change without changing the interface.

Names and units are the domain's; see ``nas.search`` and ``nas.trial`` for what each field means.
"""
