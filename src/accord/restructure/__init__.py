"""Restructure: give the layers in which tasks conflict most to the tasks themselves.

``score`` says which layers conflict, from a record; ``task_specific`` gives each task its copy of them; ``carry`` tells
the optimiser; ``cost`` says what it costs.
"""

from accord.restructure.carry import carry as carry
from accord.restructure.choose import find as find
from accord.restructure.copies import Copies as Copies
from accord.restructure.cost import Cost as Cost
from accord.restructure.cost import cost as cost
from accord.restructure.norms import norms as norms
from accord.restructure.score import LayerScore as LayerScore
from accord.restructure.score import Scores as Scores
from accord.restructure.score import score as score
from accord.restructure.specific import TaskSpecific as TaskSpecific
from accord.restructure.specific import task_specific as task_specific
