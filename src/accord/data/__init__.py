"""Where data sets lie, and how they are read safely."""

from accord.data.locate import VARIABLE as VARIABLE
from accord.data.locate import find as find
from accord.data.locate import folder as folder
from accord.data.locate import original as original
from accord.data.npz import arrays as arrays
