"""How good are the images? Distances between real and generated images, computed by torch-fidelity.

A metric is the name of what is asked for (`fd`, `kd`, `precision_recall`, `isc`), a value carries the name of what came
out: FID, KID, precision, recall and IS only from `inception-v3-compat`, and otherwise the extractor's own name, as in
FD-EfficientNetLite0. Values of different extractors, image counts or resolutions do not compare.

fd                Frechet distance of two Gaussians fitted to the features (Heusel et al. 2017, arXiv:1706.08500)
kd                unbiased squared MMD with a cubic kernel, mean over subsets (Binkowski et al. 2018, arXiv:1801.01401)
precision_recall  share of fakes near reals, and of reals near fakes (Kynkaanniemi et al. 2019, arXiv:1904.06991)
isc               Inception score (Salimans et al. 2016, arXiv:1606.03498): it never sees the real images
"""

from osgan.extras import needed

with needed("metrics"):
    from osgan.metrics.cache import FeatureCacheWarning
    from osgan.metrics.judge import METRICS, Generate, Judge, Quality

__all__ = ["METRICS", "FeatureCacheWarning", "Generate", "Judge", "Quality"]
