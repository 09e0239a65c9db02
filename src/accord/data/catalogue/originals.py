"""Data sets that only their originators may give: Accord reads the folder of a user who has one."""

from __future__ import annotations

from accord.data.catalogue.dataset import DataSet

ORIGINALS = (
    DataSet(
        name="nyuv2-mtan",
        title="NYU Depth V2 as prepared by MTAN, 288 x 384",
        kind="original",
        rows="1,449 images (795 train, 654 val)",
        tasks="segmentation (13), depth, normals",
        licence="research with citation",
        sharing="research",
        citation=(
            "N. Silberman et al., ECCV 2012; S. Liu, E. Johns, A. J. Davison, End-to-End Multi-Task Learning with "
            "Attention, CVPR 2019"
        ),
        origin="github.com/lorenmt/mtan (the link to the data is in its README)",
        layout="train/ and val/, each with 0.npy, 1.npy, ... in image/, label/, depth/ and normal/",
    ),
    DataSet(
        name="cityscapes",
        title="Cityscapes as prepared by MTAN, 128 x 256",
        kind="original",
        rows="3,475 images (2,975 train, 500 val)",
        tasks="segmentation (7), depth as disparity",
        licence="terms of cityscapes-dataset.com: research, no passing on",
        sharing="research",
        citation=(
            "M. Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016; S. Liu, "
            "E. Johns, A. J. Davison, CVPR 2019"
        ),
        origin="cityscapes-dataset.com; github.com/lorenmt/mtan",
        layout="train/ and val/, each with 0.npy, 1.npy, ... in image/, label_7/ and depth/",
    ),
    DataSet(
        name="celeba",
        title="CelebA: faces of celebrities",
        kind="original",
        rows="202,599 images",
        tasks="40 attributes (2)",
        licence="non-commercial research, no passing on",
        sharing="research",
        citation="Z. Liu, P. Luo, X. Wang, X. Tang, Deep Learning Face Attributes in the Wild, ICCV 2015",
        origin="mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        note="Photographs of real people: do not show them.",
        layout="img_align_celeba/, list_attr_celeba.txt and list_eval_partition.txt",
    ),
    DataSet(
        name="clevr",
        title="CLEVR: rendered scenes, tasks as in VTAB",
        kind="original",
        rows="85,000 images (70,000 train, 15,000 val)",
        tasks="number of objects (8), distance to the nearest (6)",
        licence="CC BY 4.0",
        sharing="open",
        citation=(
            "J. Johnson et al., CLEVR: A Diagnostic Dataset for Compositional Language and Elementary Visual "
            "Reasoning, CVPR 2017; X. Zhai et al., VTAB, 2019"
        ),
        origin="cs.stanford.edu/people/jcjohns/clevr",
        layout="images/ and scenes/ of CLEVR_v1.0",
    ),
    DataSet(
        name="smallnorb",
        title="SmallNORB: toys in stereo, 96 x 96",
        kind="original",
        rows="48,600 pairs (24,300 train, 24,300 test)",
        tasks="azimuth (18), elevation (9), category (5)",
        licence="research, with citation; must not be sold",
        sharing="research",
        citation=(
            "Y. LeCun, F. J. Huang, L. Bottou, Learning Methods for Generic Object Recognition with Invariance to "
            "Pose and Lighting, CVPR 2004"
        ),
        origin="cs.nyu.edu/~ylclab/data/norb-v1.0-small",
        layout="the six .mat or .mat.gz files of the originators",
    ),
)
