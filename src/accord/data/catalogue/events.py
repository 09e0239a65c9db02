"""The sets of event sequences."""

from __future__ import annotations

from accord.data.catalogue.dataset import DataSet, File, Sharing

STUDY = "github.com/tanguybosser/conf_tpp @ d6b72de2dc2f5662377b7e57b6f698b443ce5d6f"
EASY = "github.com/cgao-comp/LGNJSDE @ be4826fdfd3f40e5a3b94816cf3b94d65c194bd4"
LOGS = "github.com/verenich/ProcessSequencePrediction @ 9f51f9a30574a71465bb394a7ed82eee0338d10d"
RMTPP = "github.com/dunan/NeuralPointProcess @ ce05ec14624d9127a978bf1e782bd459a77568cb"

PREPARED = "O. Shchur, M. Bilos, S. Günnemann, ICLR 2020, and by T. Bosser, S. Ben Taieb, TMLR 2023"
JODIE = (
    "S. Kumar, X. Zhang, J. Leskovec, Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks, "
    f"KDD 2019; prepared by {PREPARED}"
)
TAX = "N. Tax, I. Verenich, M. La Rosa, M. Dumas, Predictive Business Process Monitoring with LSTM, CAiSE 2017"
DU = "N. Du et al., Recurrent Marked Temporal Point Processes, KDD 2016"
SCALED = "Without the training lists of the source, which are not public; all times are scaled to [0, 10]."


def _set(
    name: str, title: str, rows: str, licence: str, sharing: Sharing, citation: str, origin: str, note: str = ""
) -> DataSet:
    files = tuple(File(f"tpp/{name}.{ending}") for ending in ("parquet", "splits.json"))
    return DataSet(name, title, "events", rows, "time, mark", licence, sharing, citation, origin, note, files)


EVENTS = (
    _set(
        name="lastfm",
        title="Songs of 50 artists played by users of Last.fm",
        rows="770 sequences, 177,349 events, 50 marks",
        licence="MIT text in the repository; listening logs of Last.fm are for non-commercial research",
        sharing="research",
        citation=JODIE,
        origin=STUDY,
        note=SCALED,
    ),
    _set(
        name="mooc",
        title="50 kinds of actions of students in an online course",
        rows="6,234 sequences, 311,806 events, 50 marks",
        licence="MIT text in the repository; the log itself states no licence",
        sharing="research",
        citation=JODIE,
        origin=STUDY,
        note=SCALED,
    ),
    _set(
        name="reddit",
        title="Posts of users in 50 subreddits",
        rows="3,792 sequences, 213,831 events, 50 marks",
        licence="MIT text in the repository; the log itself states no licence",
        sharing="research",
        citation=JODIE,
        origin=STUDY,
        note=SCALED,
    ),
    _set(
        name="stackoverflow",
        title="22 badges that users of Stack Overflow earn",
        rows="6,004 sequences, 427,848 events, 22 marks",
        licence="MIT text in the repository; Stack Exchange data are CC BY-SA",
        sharing="share-alike",
        citation=f"{DU}; prepared by {PREPARED}",
        origin=STUDY,
        note=f"{SCALED} About 1,300 exact copies of sequences in the source are removed.",
    ),
    _set(
        name="github",
        title="8 kinds of actions of developers on GitHub",
        rows="173 sequences, 20,657 events, 8 marks",
        licence="ECL-2.0 in the repository; content of GH Archive is offered under CC BY 4.0",
        sharing="open",
        citation=(
            "B. Knyazev, C. Augusta, G. W. Taylor, Learning Temporal Attention in Dynamic Graphs with Bilinear "
            "Interactions, PLOS ONE 2021"
        ),
        origin="github.com/uoguelph-mlrg/LDG @ 203695748fb6d12cef40a801e634fbdab5e23692",
        note="2.5 % of the gaps are zero; sequences are of very unequal length.",
    ),
    _set(
        name="taxi",
        title="Pick-ups and drop-offs of taxis in 5 boroughs of New York",
        rows="2,000 sequences, 74,078 events, 10 marks",
        licence="none stated in the repository; New York City taxi trip records",
        sharing="none stated",
        citation="C. Whong 2014; prepared by S. Xue et al., HYPRO, NeurIPS 2022, and EasyTPP, ICLR 2024",
        origin=EASY,
    ),
    _set(
        name="taobao",
        title="Clicks of customers of a shop on 17 groups of goods",
        rows="2,000 sequences, 115,397 events, 17 marks",
        licence="none stated in the repository; Alibaba's Tianchi user-behaviour log is for research",
        sharing="none stated",
        citation="Alibaba Tianchi 2018; prepared by S. Xue et al., HYPRO, NeurIPS 2022, and EasyTPP, ICLR 2024",
        origin=EASY,
        note=("The official test part differs from the training part; gaps stored by the source contradict its times."),
    ),
    _set(
        name="helpdesk",
        title="Tickets of a help desk",
        rows="3,804 sequences, 13,710 events, 9 marks",
        licence="none stated in the repository; on Mendeley Data as CC BY 4.0, as far as known",
        sharing="none stated",
        citation=f"I. Verenich, Helpdesk, Mendeley Data; {TAX}",
        origin=LOGS,
    ),
    _set(
        name="bpi12_w",
        title="Work items of loan applications, BPI Challenge 2012",
        rows="9,658 sequences, 72,413 events, 6 marks",
        licence="none stated in the repository; 4TU.ResearchData",
        sharing="none stated",
        citation=f"B. van Dongen, BPI Challenge 2012; {TAX}",
        origin=LOGS,
    ),
    _set(
        name="bpi13_incidents",
        title="Incidents, BPI Challenge 2013",
        rows="7,554 sequences, 65,533 events, 13 marks",
        licence="none stated in the repository; 4TU.ResearchData",
        sharing="none stated",
        citation=f"W. Steeman, BPI Challenge 2013; {TAX}",
        origin=LOGS,
        note="15.3 % of the gaps are zero.",
    ),
    _set(
        name="env_permit",
        title="Environmental permits, CoSeLoG",
        rows="937 sequences, 38,944 events, 381 marks",
        licence="none stated in the repository; 4TU.ResearchData",
        sharing="none stated",
        citation=f"J. Buijs, CoSeLoG; {TAX}",
        origin=LOGS,
        note="32.9 % of the gaps are zero.",
    ),
    _set(
        name="book_order",
        title="Orders of one stock on one day",
        rows="200 sequences, 414,800 events, 2 marks",
        licence="none stated",
        sharing="none stated",
        citation=DU,
        origin=RMTPP,
        note="The sequences are consecutive pieces of one day, so they are not independent.",
    ),
    _set(
        name="ali",
        title="Undocumented, perhaps a shop",
        rows="4,136 sequences, 174,595 events, 1,754 marks",
        licence="none stated, origin undocumented",
        sharing="none stated",
        citation=DU,
        origin=RMTPP,
        note="For tests of large vocabularies of marks.",
    ),
)
