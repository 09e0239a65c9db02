"""Neural marked temporal point processes: events, models, likelihood, prediction, simulation, evaluation.

This package imports nothing else of Accord and can be used alone.
"""

from accord.tpp.anomaly import Anomalies as Anomalies
from accord.tpp.anomaly import anomalies as anomalies
from accord.tpp.batch import Batch as Batch
from accord.tpp.batch import batches as batches
from accord.tpp.batch import collate as collate
from accord.tpp.build import NAMES as NAMES
from accord.tpp.build import build as build
from accord.tpp.build import match_width as match_width
from accord.tpp.checkpoint import load as load
from accord.tpp.checkpoint import save as save
from accord.tpp.errors import TPPError as TPPError
from accord.tpp.evaluate import Evaluation as Evaluation
from accord.tpp.evaluate import evaluate as evaluate
from accord.tpp.events import Events as Events
from accord.tpp.events import Splits as Splits
from accord.tpp.events import split as split
from accord.tpp.fit import Fitted as Fitted
from accord.tpp.fit import fit as fit
from accord.tpp.intensity import IntensityCurves as IntensityCurves
from accord.tpp.intensity import intensity as intensity
from accord.tpp.long_horizon import LongHorizon as LongHorizon
from accord.tpp.long_horizon import long_horizon as long_horizon
from accord.tpp.model import Decoded as Decoded
from accord.tpp.model import Likelihood as Likelihood
from accord.tpp.model import PointProcess as PointProcess
from accord.tpp.next_event import NextEvent as NextEvent
from accord.tpp.predict import Prediction as Prediction
from accord.tpp.predict import predict as predict
from accord.tpp.prepare import Prepared as Prepared
from accord.tpp.prepare import prepare as prepare
from accord.tpp.presets import PUBLISHED as PUBLISHED
from accord.tpp.presets import Widths as Widths
from accord.tpp.readers import read as read
from accord.tpp.score import Scores as Scores
from accord.tpp.score import score as score
from accord.tpp.simulate import futures as futures
from accord.tpp.simulate import simulate as simulate
from accord.tpp.tick import tick as tick
