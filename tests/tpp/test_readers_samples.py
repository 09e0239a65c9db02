import os
from pathlib import Path

import pytest

from accord.tpp.readers import read, recognise

SAMPLES = Path(os.environ.get("ACCORD_DATA", "/nowhere")) / "tpp" / "raw_samples"

SAMPLE_COUNTS = {  # file: format, part, sequences, events, marks
    "gatech_pickle/taxi_dev.pkl": ("gatech", "validation", 200, 7_404, 10),
    "gatech_pickle/taobao_dev.pkl": ("gatech", "validation", 200, 11_737, 17),
    "gatech_pickle/askubuntu_dev.pkl": ("gatech", "validation", 34, 5_165, 11),
    "gatech_pickle/anhp_synthetic_dev.pkl": ("gatech", "validation", 100, 500, 50),
    "easytpp_json/synthetic_data.json": ("easytpp", "all", 8, 298, 3),
    "ifl_tpp/hawkes1.npz": ("ifl_tpp", "all", 64, 65_536, 1),
    "ifl_tpp/yelp_toronto.npz": ("ifl_tpp", "all", 300, 215_146, 1),
    "ifl_tpp/taxi_torch_saved.pkl": ("ifl_tpp", "all", 182, 17_904, 1),
    "grad_tpp_json/lastfm/split_0": ("authors", "validation", 85, 17_409, 50),
    "grad_tpp_json/lastfm/split_0/test.json": ("authors", "test", 87, 15_643, 50),
    "du_text/ali": ("du_text", "test", 827, 34_880, 838),
    "du_text/synthetic_hawkes": ("du_text", "test", 64, 9_984, 1),
    "gntpp_pickle/stackoverflow_val_manifold_format.pkl": ("gntpp", "validation", 700, 47_945, 22),
}


@pytest.mark.parametrize("file", SAMPLE_COUNTS)
def test_genuine_samples(file):
    path = SAMPLES / file
    if not path.exists():
        pytest.skip(f"needs the data folder in ACCORD_DATA ({file})")
    kind, part, sequences, events, marks = SAMPLE_COUNTS[file]
    found = read(path)
    got = found.parts[part]
    assert recognise(path) == kind
    assert (len(got), got.time.size, len(got.marks)) == (sequences, events, marks)
    if "taobao" in file:
        assert "908 of 11537" in found.warnings[0]
        assert read(path, stored_dt=True).parts[part].gaps.max() < 2.0 < got.gaps.max()
    elif kind == "easytpp":
        assert "189 of 290" in found.warnings[0]
    else:
        assert found.warnings == ()
    if "torch" in file:
        assert (got.start == 0).all()
        assert (got.end == 24).all()
