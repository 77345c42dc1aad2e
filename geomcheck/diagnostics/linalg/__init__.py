"""The linear algebra of the diagnostics: one algorithm per module, each with a certificate; `dense` is the oracle.

`dense` factorizes whole matrices in float64. `basis` and `perturbation` see every checkpoint from the singular basis
of W0, with angles by `riccati` and singular values by `windows`. `spectrum` finds the top of an update's spectrum by
`krylov`. Where a certificate is not met, the next dearer route answers, and `dense` last.
"""

from geomcheck.diagnostics.linalg.angles import principal_angles
from geomcheck.diagnostics.linalg.basis import Basis
from geomcheck.diagnostics.linalg.certificate import ACCURACY, ANGLE_FLOOR, Certificate, Route
from geomcheck.diagnostics.linalg.dense import Factorization, spectral_shift_norm
from geomcheck.diagnostics.linalg.perturbation import Perturbation
from geomcheck.diagnostics.linalg.spectrum import DENSE_SUBSPACE, SMALL, UpdateSpectrum

__all__ = [
    "ACCURACY",
    "ANGLE_FLOOR",
    "DENSE_SUBSPACE",
    "SMALL",
    "Basis",
    "Certificate",
    "Factorization",
    "Perturbation",
    "Route",
    "UpdateSpectrum",
    "principal_angles",
    "spectral_shift_norm",
]
