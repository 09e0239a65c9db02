"""Speed of EasyTPP on marked event sequences: training, and evaluation with its own one-step prediction.

    python benchmarks/tpp_peers.py [--models RMTPP THP] [--hidden 32] [--sequences 512] [--repeats 5]

Everything inside the measured part is EasyTPP's own code: its dataset, tokenizer, collator and DataLoader, its models,
its loss, its optimiser step (``ModelWrapper.run_batch``), its loop over an epoch and its metrics
(``TPPRunner.run_one_epoch``). Left out are its YAML files, log files and checkpoints, which lie before and after an
epoch. Settings that are no argument here are those of its published ``examples/configs/experiment_config.yaml``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import ArrayLike

MODELS = ("RMTPP", "FullyNN", "IntensityFree", "THP", "SAHP", "AttNHP")
BATCH = 64
THINNING = {"num_sample": 1, "num_exp": 500, "over_sample_rate": 5, "num_samples_boundary": 5, "dtime_max": 5}
SPECS = {
    # Without `proper_marked_intensities` every mark has the same intensity, and marks are not modelled at all.
    "FullyNN": {"num_mlp_layers": 3, "proper_marked_intensities": True},
    "IntensityFree": {"num_mix_components": 3},
}

Run = Callable[[], dict[str, float]]


def easytpp(name: str, hidden: int, marks: int, sequences: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[Run, Run]:
    """An EasyTPP model, ready to be measured.

    Args:
        name: one of `MODELS`.
        hidden: width of everything.
        marks: M.
        sequences: (times, marks) each; the model is trained on them and evaluated on the same.

    Returns:
        Two functions without arguments, each for one pass over all sequences in batches of 64: training, which
        returns ``{"loglike": nats per event, "num_events": ...}``; and evaluation, which adds ``acc`` and ``rmse`` of
        its one-step prediction. FullyNN has none: its intensities need a gradient, its prediction forbids them.
    """
    try:
        from easy_tpp.config_factory import DataSpecConfig, ModelConfig
        from easy_tpp.config_factory.model_config import TrainerConfig
        from easy_tpp.model import BaseModel
        from easy_tpp.model_wrapper import ModelWrapper
        from easy_tpp.preprocess import EventTokenizer, TPPDataset, get_data_loader
        from easy_tpp.runner import TPPRunner
        from easy_tpp.utils import MetricsHelper, RunnerPhase
    except ImportError as error:
        raise SystemExit(f"The peer is not installed ({error}): pip install easy-tpp==0.3.0") from error

    # What its data loader reads from a file: lists of Python numbers. The first gap is 0, as in its own data sets.
    times = [np.asarray(t, float).tolist() for t, _ in sequences]
    dataset = TPPDataset(
        {
            "time_seqs": times,
            "time_delta_seqs": [np.diff(t, prepend=t[:1]).tolist() for t in times],
            "type_seqs": [np.asarray(k, int).tolist() for _, k in sequences],
        }
    )
    data = DataSpecConfig(num_event_types=marks, pad_token_id=marks, padding_side="right")
    loader = get_data_loader(dataset, "torch", EventTokenizer(data), batch_size=BATCH, shuffle=False)
    config = ModelConfig(
        model_id=name,
        hidden_size=hidden,
        time_emb_size=16,
        num_layers=2,
        num_heads=2,
        loss_integral_num_sample_per_step=20,
        num_event_types=marks,
        num_event_types_pad=marks + 1,
        event_pad_index=marks,
        model_specs=SPECS.get(name, {}),
        thinning=None if name == "FullyNN" else THINNING,
        training=True,
    )
    mean, deviation, _, _ = dataset.get_dt_stats()  # its runner hands these to every model; IntensityFree reads them
    config.set("mean_log_inter_time", mean)
    config.set("std_log_inter_time", deviation)
    model = BaseModel.generate_model_from_config(config)
    wrapper = ModelWrapper(model, SimpleNamespace(model_id=name), config, TrainerConfig(batch_size=BATCH))
    runner = SimpleNamespace(  # the three things of a runner that an epoch uses; a real one also writes files
        model_wrapper=wrapper,
        metric_functions=MetricsHelper.get_metrics_callback_from_names(["acc", "rmse"]),
        runner_config=SimpleNamespace(data_config=SimpleNamespace(data_specs=data)),
    )

    def train_epoch() -> dict[str, float]:
        return TPPRunner.run_one_epoch(runner, loader, RunnerPhase.TRAIN)

    def evaluate() -> dict[str, float]:
        return TPPRunner.run_one_epoch(runner, loader, RunnerPhase.VALIDATE)

    return train_epoch, evaluate


def events_per_second(run: Run, events: int, repeats: int) -> float:
    """Median over repeats, after one that warms up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return events / statistics.median(seconds)


def main() -> None:
    from accord.tpp.hawkes.presets import hawkes_large
    from accord.tpp.hawkes.simulate import simulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS[:-1], help="AttNHP takes minutes")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--sequences", type=int, default=512)
    parser.add_argument("--end", type=float, default=13.0, help="length of the windows; 13 gives about 100 events each")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    events = simulate(hawkes_large(), arguments.sequences, arguments.end)
    cuts = events.offsets[1:-1]
    sequences = list(zip(np.split(events.time, cuts), np.split(events.mark, cuts), strict=True))
    print(f"{events}, {events.lengths.mean():.0f} events each, {torch.get_num_threads()} threads, batch {BATCH}")
    print(f"{'':15}{'training':>12}{'evaluation':>12}   events per second")
    for name in arguments.models:
        torch.manual_seed(0)
        rates = [
            events_per_second(run, events.time.size, arguments.repeats)
            for run in easytpp(name, arguments.hidden, len(events.marks), sequences)
        ]
        print(f"{name:15}" + "".join(f"{rate:12,.0f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
