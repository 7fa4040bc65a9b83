"""The claims of snrise, each with the measurements that decide it."""

from benchmarks.claims.blocks.claim import CLAIM as BLOCKS
from benchmarks.claims.claim import Claim
from benchmarks.claims.dropout.claim import CLAIM as DROPOUT
from benchmarks.claims.ends.claim import CLAIM as ENDS
from benchmarks.claims.memory.claim import CLAIM as MEMORY
from benchmarks.claims.predictions.claim import CLAIM as PREDICTIONS
from benchmarks.claims.shift.claim import CLAIM as SHIFT
from benchmarks.claims.stems.claim import CLAIM as STEMS

#: Claims by name, in the order of the documentation.
CLAIMS: dict[str, Claim] = {
    claim.name: claim for claim in (SHIFT, ENDS, STEMS, BLOCKS, DROPOUT, PREDICTIONS, MEMORY)
}
