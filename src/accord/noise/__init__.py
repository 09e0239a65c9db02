"""Is this cosine below what sampling noise gives? Pure functions on the Gramians of two half-batches, in numpy.

A look at K tasks on two disjoint half-batches ``a`` and ``b`` gives a Gramian ``(2K, 2K)``: first the K gradients of
half a, then those of half b. Noise of one half is independent of noise of the other, so products *across* the halves
have no noise on average. Many looks, ``(T, ..., 2K, 2K)``, give intervals.
"""

from accord.noise.corrected import Corrected as Corrected
from accord.noise.corrected import corrected_cosine as corrected_cosine
from accord.noise.intervals import Estimate as Estimate
from accord.noise.null import Excess as Excess
from accord.noise.null import excess_incidence as excess_incidence
from accord.noise.null import null_incidence as null_incidence
from accord.noise.parts import Halves as Halves
from accord.noise.parts import halves as halves
from accord.noise.parts import split as split
from accord.noise.strength import Signal as Signal
from accord.noise.strength import band as band
from accord.noise.strength import signal as signal
