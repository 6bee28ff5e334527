"""Success rates have Wilson's intervals."""

import numpy as np

from experiments import success_rates


def test_intervals_are_wilsons():
    # Brown, Cai and DasGupta 2001 give the formula; these are its values by hand at z = 1.96.
    np.testing.assert_allclose(success_rates.wilson(0, 10), (0.0, 0.27754), atol=1e-4)
    np.testing.assert_allclose(success_rates.wilson(5, 10), (0.23659, 0.76341), atol=1e-4)
    assert success_rates.percent(39, 40) == "98 [87, 100]"
