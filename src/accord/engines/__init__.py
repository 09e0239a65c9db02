"""Engines: how the Gramians of a step are obtained. The only callers of autograd."""

from accord.engines.aside import grads_aside as grads_aside
from accord.engines.by_use import Contributions as Contributions
from accord.engines.by_use import contributions as contributions
from accord.engines.by_use import use_gramians as use_gramians
from accord.engines.by_use import uses as uses
from accord.engines.displaced import Displaced as Displaced
from accord.engines.engine import Engine as Engine
from accord.engines.features import Features as Features
from accord.engines.held import Accumulated as Accumulated
from accord.engines.held import Held as Held
from accord.engines.held import cross_products as cross_products
from accord.engines.held import meet as meet
from accord.engines.segmented import Segmented as Segmented
from accord.engines.stacked import Stacked as Stacked
from accord.engines.start import ENGINES as ENGINES
from accord.engines.start import Starter as Starter
from accord.engines.start import by_hand as by_hand
