"""The claims of snrise, each with the measurements that decide it."""

from benchmarks.claims.blocks.claim import CLAIM as BLOCKS
from benchmarks.claims.claim import Claim
from benchmarks.claims.dropout.claim import CLAIM as DROPOUT
from benchmarks.claims.ends.claim import CLAIM as ENDS
from benchmarks.claims.exactness.claim import CLAIM as EXACTNESS
from benchmarks.claims.foresight.claim import CLAIM as FORESIGHT
from benchmarks.claims.growing.claim import CLAIM as GROWING
from benchmarks.claims.memory.claim import CLAIM as MEMORY
from benchmarks.claims.peers.claim import CLAIM as PEERS
from benchmarks.claims.predictions.claim import CLAIM as PREDICTIONS
from benchmarks.claims.samplers.claim import CLAIM as SAMPLERS
from benchmarks.claims.shift.claim import CLAIM as SHIFT
from benchmarks.claims.stems.claim import CLAIM as STEMS

#: Claims by name, in the order of the documentation.
CLAIMS: dict[str, Claim] = {
    claim.name: claim for claim in (
        SHIFT, ENDS, STEMS, BLOCKS, DROPOUT, PREDICTIONS, GROWING, SAMPLERS, EXACTNESS, FORESIGHT, PEERS, MEMORY,
    )
}
