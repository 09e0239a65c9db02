"""The multi-task sets of images, tables and text with prepared files, and what needs no files."""

from __future__ import annotations

from accord.data.catalogue.dataset import DataSet, File, Public

RAW = "https://raw.githubusercontent.com"
EWT = f"{RAW}/UniversalDependencies/UD_English-EWT/15d613d8447b3478787d4c278730a1e48a945efb"
WIKI = f"{RAW}/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2"
PLAYS = f"{RAW}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare"
TOX21 = f"{RAW}/deepchem/deepchem/fbe3b911a94a6eb8c84c1a9e7ac67a472c49ea80/datasets"

MULAN = (
    "andro", "atp1d", "atp7d", "edm", "enb", "jura", "oes10", "oes97", "osales", "scpf", "sf1", "sf2", "slump", "wq",
)  # fmt: skip

IMAGES = (
    DataSet(
        name="nyuv2",
        title="Indoor scenes of NYU Depth V2, at 144 x 192",
        kind="multi-task",
        rows="1,449 images (795 train, 654 test)",
        tasks="segmentation (13), depth, normals",
        licence="none stated; published by its authors for research with citation",
        sharing="research",
        citation=(
            "N. Silberman, D. Hoiem, P. Kohli, R. Fergus, Indoor Segmentation and Support Inference from RGBD "
            "Images, ECCV 2012"
        ),
        origin=(
            "cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html; github.com/markshih91/refinenet_pytorch @ "
            "109cc25300c5c545c7b732b2f4daa97b0755468b and github.com/ankurhanda/nyuv2-meta-data @ "
            "b92d15c506876dada1ac4086938e30ebc4deb49b"
        ),
        note=(
            "Normals are derived from depth. In the test part, class 7 (objects) also holds what is unlabelled in "
            "training."
        ),
        files=(File("mtl/nyuv2/nyuv2_144x192.zip"),),
    ),
    DataSet(
        name="eth80",
        title="ETH-80: objects on a turntable, at 64 x 64",
        kind="multi-task",
        rows="3,280 images of 80 objects",
        tasks="category (8), elevation (7 values), azimuth (24), silhouette",
        licence="none stated in the repository; free for research with citation",
        sharing="research",
        citation=(
            "B. Leibe, B. Schiele, Analyzing Appearance and Contour Based Methods for Object Categorization, CVPR 2003"
        ),
        origin="github.com/chenchkx/ETH-80 @ 9243466b9ca5f15765c88fdaf17c4f10c15a8574",
        note="Split by object. Azimuth means nothing from above, and little for apples, pears and tomatoes.",
        files=(File("mtl/eth80/eth80_64.npz"),),
    ),
    DataSet(
        name="mtfl",
        title="MTFL: faces in grey, at 40 x 40",
        kind="multi-task",
        rows="10,000 images",
        tasks="landmarks (10 numbers), pose (5), gender (2), smile (2), glasses (2)",
        licence="none in the repository; the authors ask for citation, research use",
        sharing="research",
        citation=(
            "Z. Zhang, P. Luo, C. C. Loy, X. Tang, Facial Landmark Detection by Deep Multi-task Learning, ECCV 2014"
        ),
        origin=(
            "mmlab.ie.cuhk.edu.hk/projects/TCDCN.html; github.com/nieag/deepl18_project @ "
            "b5a142425fa83472ebc95617a1ce20658c4995d2"
        ),
        note="Photographs of real people: do not show them. One person may be in training and test.",
        files=(File("mtl/mtfl/mtfl_train_40.npz"),),
    ),
    DataSet(
        name="mnist",
        title="MNIST: handwritten digits",
        kind="multi-task",
        rows="70,000 images (60,000 train, 10,000 test)",
        tasks="digit (10); two on one image in `multimnist`",
        licence="CC BY-SA 3.0",
        sharing="share-alike",
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning Applied to Document Recognition, 1998"
        ),
        origin="yann.lecun.com/exdb/mnist",
        note="The bytes of the official files, as arrays.",
        files=(File("mtl/mnist/mnist.npz"),),
    ),
)

TABLES = (
    DataSet(
        name="adult",
        title="Adult: census of 1994",
        kind="multi-task",
        rows="48,842 people (32,561 train, 16,281 test)",
        tasks="income (2), never married (2), long hours (2)",
        licence="CC BY 4.0",
        sharing="open",
        citation="R. Kohavi, B. Becker, Adult, UCI Machine Learning Repository, 1996",
        origin="archive.ics.uci.edu/dataset/2/adult",
        note="Holds race, sex and native country. Drop the columns that give a target away.",
        files=(File("mtl/adult/adult.parquet"),),
    ),
    DataSet(
        name="mulan_mtr",
        title="14 sets of multi-target regression",
        kind="multi-task",
        rows="49 to 1,137 rows each",
        tasks="2 to 16 numbers",
        licence=(
            "none stated for the data of most; enb, slump, sf1, sf2: UCI, CC BY 4.0; osales, scpf: terms of Kaggle"
        ),
        sharing="none stated",
        citation=(
            "E. Spyromitros-Xioufis, G. Tsoumakas, W. Groves, I. Vlahavas, Multi-target regression via input "
            "space expansion, Machine Learning 2016"
        ),
        origin="github.com/tsoumakas/mulan @ 43f6389095ad71984264db4387a8074b22bc7d4a",
        note="osales and scpf have missing inputs.",
        files=(*(File(f"mtl/mulan_mtr/{name}.parquet") for name in MULAN), File("mtl/mulan_mtr/targets.json")),
    ),
    DataSet(
        name="tox21",
        title="Tox21: toxicity of molecules",
        kind="multi-task",
        rows="8,014 molecules",
        tasks="12 assays (2), 17.3 % missing",
        licence="MIT (DeepChem); data of the NIH Tox21 Challenge, public",
        sharing="open",
        citation="NIH Tox21 Challenge 2014; Z. Wu et al., MoleculeNet, Chemical Science 2018",
        origin="github.com/deepchem/deepchem @ fbe3b911a94a6eb8c84c1a9e7ac67a472c49ea80",
        note="7,831 distinct molecules: split by SMILES.",
        files=(
            File(
                "mtl/tox21/tox21.csv.gz",
                Public(
                    f"{TOX21}/tox21.csv.gz", 125310, "48b34e4e59a2bae6f95734cd206c1869ab355f50a5e50bb7371a21f861d5e297"
                ),
            ),
        ),
    ),
    DataSet(
        name="school",
        title="School: exam scores in London",
        kind="multi-task",
        rows="15,362 pupils",
        tasks="score in each of 139 schools",
        licence="none for the data; the code of the repository is GPL-2.0",
        sharing="research",
        citation=(
            "H. Goldstein 1991, Inner London Education Authority; A. Argyriou, T. Evgeniou, M. Pontil, Convex "
            "multi-task feature learning, Machine Learning 2008"
        ),
        origin="github.com/jiayuzhou/MALSAR @ fb9751594983df020ddc4f7e4a40520ee7c37989",
        files=(File("mtl/school/school.npz"),),
    ),
)


def _packed(path: str, url: str, size: int, sha256: str) -> File:
    return File(path, Public(url, size, sha256, pack=True))


TEXT = (
    DataSet(
        name="ud_ewt",
        title="UD English EWT: annotated web text",
        kind="text",
        rows="16,622 sentences (12,544 / 2,001 / 2,077)",
        tasks="UPOS (17), XPOS (49), features, head, relation (51), genre (5)",
        licence="CC BY-SA 4.0 for annotations; the texts have several owners",
        sharing="share-alike",
        citation="N. Silveira et al., A Gold Standard Dependency Corpus for English, LREC 2014",
        origin="github.com/UniversalDependencies/UD_English-EWT @ 15d613d8447b3478787d4c278730a1e48a945efb",
        note="The file of its licence must stay with it.",
        files=(
            _packed(
                "mtl/ud_ewt/en_ewt-ud-train.conllu.gz",
                f"{EWT}/en_ewt-ud-train.conllu",
                14203025,
                "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
            ),
            _packed(
                "mtl/ud_ewt/en_ewt-ud-dev.conllu.gz",
                f"{EWT}/en_ewt-ud-dev.conllu",
                1805545,
                "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
            ),
            _packed(
                "mtl/ud_ewt/en_ewt-ud-test.conllu.gz",
                f"{EWT}/en_ewt-ud-test.conllu",
                1804515,
                "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
            ),
            File(
                "mtl/ud_ewt/LICENSE.txt",
                Public(f"{EWT}/LICENSE.txt", 20014, "b3d1b0f4c6ae151f7eb78738f46ebd5ee140f8a7f76501ba26af123140d35ae7"),
            ),
        ),
    ),
    DataSet(
        name="text",
        title="WikiText-2, addresses of presidents, plays",
        kind="text",
        rows="1.15 million words in 5 files",
        tasks="masked words, next sentence, replaced tokens",
        licence="WikiText-2: CC BY-SA 3.0; addresses and plays: public domain",
        sharing="share-alike",
        citation=(
            "S. Merity et al., Pointer Sentinel Mixture Models, 2016; K. Ahrens and NLTK for the addresses; A. "
            "Karpathy for the choice of plays"
        ),
        origin=(
            "github.com/pytorch/examples @ 77f55b912142e11fcfdf5b530231fb9c52f181e8, github.com/nltk/nltk_data @ "
            "5db857e6f7df11eabb5e5665836db9ec8df07e28, github.com/karpathy/char-rnn @ "
            "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
        ),
        note="Without the training part of WikiText-2: train on valid, test on test.",
        files=(
            _packed(
                "mtl/text/wikitext2_valid.txt.gz",
                f"{WIKI}/valid.txt",
                1121681,
                "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            ),
            _packed(
                "mtl/text/wikitext2_test.txt.gz",
                f"{WIKI}/test.txt",
                1256449,
                "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            ),
            _packed(
                "mtl/text/tinyshakespeare.txt.gz",
                f"{PLAYS}/input.txt",
                1115394,
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            ),
            File("mtl/text/state_union.jsonl.gz"),
            File("mtl/text/inaugural.jsonl.gz"),
        ),
    ),
)

BUNDLED = (
    DataSet(
        name="digits",
        title="Scans of handwritten digits, 8 x 8",
        kind="bundled",
        rows="1,797 images",
        tasks="digit (10); two on one image",
        licence="CC BY 4.0",
        sharing="open",
        citation=(
            "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998"
        ),
        origin="the copy in scikit-learn",
        note="Nothing to download.",
    ),
    DataSet(
        name="hawkes",
        title="A Hawkes process of five marks, simulated",
        kind="bundled",
        rows="as many sequences as are asked for",
        tasks="time, mark",
        licence="none needed",
        sharing="open",
        citation="A. G. Hawkes, Spectra of some self-exciting processes, Biometrika 1971",
        origin="simulated",
        note="Nothing to download.",
    ),
)

MULTITASK = (*IMAGES, *TABLES, *TEXT, *BUNDLED)
