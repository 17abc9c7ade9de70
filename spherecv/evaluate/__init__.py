"""Protocols, figures with intervals, calibration and reports."""

from spherecv.evaluate.allpairs import AllPairs, compare_all
from spherecv.evaluate.calibration import calibrate_all, calibrate_pairs, information_gain
from spherecv.evaluate.classification import ClassFigures, class_figures, class_folds
from spherecv.evaluate.collection import ImageEmbeddings, embed_images
from spherecv.evaluate.croprun import CropFigures, evaluate_crops
from spherecv.evaluate.cropsets import BinSet, FolderSet, open_set
from spherecv.evaluate.curves import Roc, area_under, best_accuracy, equal_error, roc_curve, tar_at_far
from spherecv.evaluate.experiment import Experiment, Variant
from spherecv.evaluate.figures import Figure, VerificationFigures, verification_figures
from spherecv.evaluate.folds import FoldTable, evaluate_folds, evaluate_split, fold_distances
from spherecv.evaluate.gridfolds import GridFigures, grid_figures
from spherecv.evaluate.groups import GroupRates, false_match_rates
from spherecv.evaluate.identification import Identification, identify
from spherecv.evaluate.ijbrun import IjbFiles, TemplateExperiment, evaluate_ijb
from spherecv.evaluate.likelihood import expected_calibration_error, fit_probability
from spherecv.evaluate.nistrun import ImageTable, NistExperiment, evaluate_nist
from spherecv.evaluate.paired import PairedTest, compare_distances, compare_experiments
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import PairList, find_pairs
from spherecv.evaluate.report import write_report
from spherecv.evaluate.run import evaluate_groups, evaluate_lfw, evaluate_pairs, evaluate_ytf
from spherecv.evaluate.subject import Subject

__all__ = [
    "AllPairs",
    "BinSet",
    "ClassFigures",
    "CropFigures",
    "Experiment",
    "Figure",
    "FoldTable",
    "FolderSet",
    "GridFigures",
    "GroupRates",
    "Identification",
    "IjbFiles",
    "ImageEmbeddings",
    "ImageTable",
    "NistExperiment",
    "PairList",
    "PairedTest",
    "Roc",
    "Subject",
    "TemplateExperiment",
    "Variant",
    "VerificationFigures",
    "area_under",
    "best_accuracy",
    "calibrate_all",
    "calibrate_pairs",
    "class_figures",
    "class_folds",
    "compare_all",
    "compare_distances",
    "compare_experiments",
    "embed_images",
    "equal_error",
    "evaluate_crops",
    "evaluate_folds",
    "evaluate_groups",
    "evaluate_ijb",
    "evaluate_lfw",
    "evaluate_nist",
    "evaluate_pairs",
    "evaluate_split",
    "evaluate_ytf",
    "expected_calibration_error",
    "false_match_rates",
    "find_pairs",
    "fit_probability",
    "fold_distances",
    "grid_figures",
    "identify",
    "information_gain",
    "open_set",
    "read_pairs",
    "roc_curve",
    "tar_at_far",
    "verification_figures",
    "write_report",
]
