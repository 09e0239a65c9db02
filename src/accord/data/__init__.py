"""Where data sets lie, and how they are read safely."""

from accord.data.catalogue import DATASETS as DATASETS
from accord.data.catalogue import DataSet as DataSet
from accord.data.catalogue import dataset as dataset
from accord.data.links import link as link
from accord.data.locate import VARIABLE as VARIABLE
from accord.data.locate import find as find
from accord.data.locate import folder as folder
from accord.data.locate import original as original
from accord.data.npz import arrays as arrays
