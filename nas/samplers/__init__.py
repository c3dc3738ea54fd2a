"""How the next architecture to try is chosen: by order, by chance, or learnt from the trials so far.

``sampler`` says what each of them is; ``nas.proposer`` knows which one a spec asks for.
"""
