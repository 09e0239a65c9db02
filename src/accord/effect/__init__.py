"""What a step does to each loss: measured on a batch, before and after, under the actual optimiser.

First-order harm is read off Gramians (``accord.conflict``); here the losses themselves are looked at again.
"""

from accord.effect.one_step import Effect as Effect
from accord.effect.one_step import one_step as one_step
from accord.effect.projection import StepProjection as StepProjection
from accord.effect.projection import project as project
from accord.effect.realised import Realised as Realised
from accord.effect.realised import realised as realised
