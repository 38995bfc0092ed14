"""Checkouts of a few lines of our own, in the shape of the peers' files."""

from tests.bench.peers.checkouts import (
    adversarial_flow,
    basicsr,
    gat,
    hifi_gan,
    r3gan,
    studiogan,
    taming_transformers,
)

LOOPS = {
    "hifi-gan": hifi_gan.FILES,
    "basicsr": basicsr.FILES,
    "taming-transformers": taming_transformers.FILES,
    "r3gan": r3gan.FILES,
    "studiogan": studiogan.FILES,
    "adversarial-flow": adversarial_flow.FILES,
    "gat": gat.FILES,
}
"""Those of which most have a loop with several losses."""
