"""How much is to be proven, from the environment.

STOKER_PROOF_SEEDS  how many histories (default 500: enough to catch every planted bug)
STOKER_PROOF_FIRST  the seed of the first (default 0)
STOKER_PROOF_SEED   this history alone, told step by step
STOKER_PROOF_DEPTH  how many steps deep the search goes (default 7; it has seen every state after 19)
"""

import os


def _wanted(name: str, default: int) -> int:
    return int(os.environ.get(f"STOKER_PROOF_{name}", default))


BY_DAY = 500
SEEDS = _wanted("SEEDS", BY_DAY)
FIRST = _wanted("FIRST", 0)
SEED = os.environ.get("STOKER_PROOF_SEED")
DEPTH = _wanted("DEPTH", 7)
