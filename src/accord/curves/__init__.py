"""Learning curves: does a task overfit, does it underfit, is it stuck at chance?

A cosine says what the gradients do; the curves say what came of it. Under dominance the strong task may overfit while
the weak one never leaves chance, and neither is seen in the total loss. Pure functions on plain numbers, in numpy
float64, with three answers.
"""

from accord.curves.answer import Answer as Answer
from accord.curves.answer import Line as Line
from accord.curves.diagnosis import Fit as Fit
from accord.curves.diagnosis import diagnose as diagnose
from accord.curves.questions import chance_level as chance_level
from accord.curves.questions import gap as gap
from accord.curves.questions import overfitting as overfitting
from accord.curves.questions import relative as relative
from accord.curves.questions import stuck as stuck
from accord.curves.questions import underfitting as underfitting
