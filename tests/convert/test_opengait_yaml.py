"""OpenGait's configs: translation and refusal of each setting. The texts are written by hand."""

import re
import time
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from mcl_jax.config import load_config, validate
from mcl_jax.convert.opengait_yaml import translate
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.data.datasets import DATASETS
from mcl_jax.errors import ConfigError

DATA = "data_cfg: {{dataset_name: {0}, test_dataset_name: {0}, dataset_partition: {0}.json}}\n"
TRIPLET = "{type: TripletLoss, margin: 0.2, log_prefix: triplet}"
BOTH = f"loss_cfg: [{TRIPLET}, {{type: CrossEntropyLoss, scale: 16, log_accuracy: true}}]\n"
GAITSET = (
    "model_cfg: {{model: GaitSet, in_channels: [1, {0}], bin_num: [16, 8, 4, 2, 1], "
    "SeparateFCs: {{in_channels: {1}, out_channels: 256, parts_num: 62}}}}\n"
)
GAITPART = (
    "model_cfg: {{model: GaitPart, bin_num: [16], backbone_cfg: {{type: Plain, in_channels: 1, "
    "layers_cfg: [{0}]}}, SeparateFCs: {{in_channels: {1}, out_channels: {1}, parts_num: 16}}}}\n"
)
GAITGL = "model_cfg: {{model: GaitGL, channels: [{0}], class_num: {1}{2}}}\n"
NECKS = ", SeparateBNNecks: {class_num: 20000, in_channels: 256, parts_num: 64}"
UNSCALED = (
    "loss_cfg: [{{type: TripletLoss, margin: 0.2, log_prefix: triplet}}, "
    "{{type: CrossEntropyLoss, scale: 1, label_smooth: {0}}}]\n"
)
THREE_STAGES = "BC-32, BC-32, M, FC-64-2, FC-64-2, M, FC-128-3, FC-128-3"
FOUR_STAGES = "BC-32, BC-32, M, BC-64, BC-64, M, FC-128-3, FC-128-3, FC-256-3, FC-256-3"
GAITBASE = (
    "model_cfg: {{model: Baseline, bin_num: [16], backbone_cfg: {{type: ResNet9, block: BasicBlock, "
    "channels: [64, 128, 256, 512], layers: [1, 1, 1, 1], strides: [1, 2, 2, 1], maxpool: false}}, "
    "SeparateFCs: {{in_channels: 512, out_channels: 256, parts_num: 16}}, "
    "SeparateBNNecks: {{class_num: {0}, in_channels: 256, parts_num: 16}}}}\n"
)
DEEP = (
    "model_cfg: {{model: DeepGaitV2, Backbone: {{in_channels: 1, mode: {0}, layers: {1}, "
    "channels: [64, 128, 256, 512]}}, SeparateBNNecks: {{class_num: {2}}}}}\n"
)
PLAIN = (
    "model_cfg: {model: Baseline, bin_num: [16, 8, 4, 2, 1], backbone_cfg: {type: Plain, in_channels: 1, "
    "layers_cfg: [BC-64, BC-64, M, BC-128, BC-128, M, BC-256, BC-256, M, BC-512, BC-512]}, "
    "SeparateFCs: {in_channels: 512, out_channels: 256, parts_num: 31}, "
    "SeparateBNNecks: {class_num: 500, in_channels: 256, parts_num: 31}}\n"
)
SWINGAIT = (
    "model_cfg: {{model: SwinGait, Backbone: {{in_channels: 1, mode: p3d, layers: {1}, "
    "channels: [64, 128]}}, bin_num: [15], "
    "SeparateBNNecks: {{in_channels: 256, class_num: {0}, parts_num: 16}}}}\n"
    "optimizer_cfg: {{solver: AdamW, lr: 0.0003, weight_decay: 0.02}}\n"
)
FROM_DEEPGAITV2 = (
    "T_max_iter: {0}, optimizer_reset: true, scheduler_reset: {1}, restore_ckpt_strict: false, "
    "restore_hint: DeepGaitV2.pt, sampler:"
)
FOUNDATIONGAIT = (
    "model_cfg: {{model: FoundationGait_Scaling_Finetune, crop_list: {0}, Backbone: {{in_channels: 1, "
    "mode: p3d, layers: [1, 4, 8, 4], channels: [64, 128, 256, 512]}}, bin_num: [16, 8, 4, 2, 1], "
    "parts_num: 31, SeparateFCs: {{in_channels: 512, out_channels: 256, parts_num: 31}}, "
    "SeparateBNNecks: {{in_channels: 256, class_num: {1}, parts_num: 31}}, "
    "backbone_lr: [0.0, 0.0, 0.0, 0.001, 0.005], projector_lr: 0.01}}\n"
    "optimizer_cfg: {{solver: SGD, lr: 0.1, momentum: 0.9, weight_decay: 0.0}}\n"
)
FROM_PRETRAINING = (
    "optimizer_reset: true, scheduler_reset: true, restore_ckpt_strict: false, restore_hint: F.pt, sampler:"
)
GAITSSB = (
    "data_cfg: {dataset_name: CASIA-B, dataset_partition: x.json, dataset_name: CASIA-B}\n"
    "model_cfg: {model: GaitSSB_Finetune, backbone_cfg: {type: ResNet9}, parts_num: 31}\n"
)
CUT = "[{type: BaseSilCuttingTransform}]"
AUGMENTED = (
    "[{type: Compose, trf_cfg: [{type: RandomPerspective, prob: 0.2}, {type: BaseSilCuttingTransform}, "
    "{type: RandomHorizontalFlip, prob: 0.2}, {type: RandomRotate, prob: 0.2}]}]"
)
SKIPS_NONE = "sample_type: fixed_ordered, frames_num_fixed: 30, frames_skip_num: 0"
SKIPS_10 = "sample_type: fixed_ordered, frames_num_fixed: 30, frames_skip_num: 10"
ORDERED = "sample_type: fixed_ordered, frames_num_fixed: 30, frames_skip_num: 4"


def evaluator(function: str) -> str:
    return f"evaluator_cfg: {{eval_func: {function}, restore_hint: 0, sampler: {{frames_all_limit: 720}}}}\n"


def trainer(steps: int, batch: str, sampler: str, transform: str) -> str:
    return (
        f"trainer_cfg: {{total_iter: {steps}, save_iter: 1000, sync_BN: true, "
        f"sampler: {{batch_size: {batch}, {sampler}}}, transform: {transform}}}\n"
    )


def schedule(*milestones: int) -> str:
    return f"scheduler_cfg: {{milestones: {list(milestones)}}}\n"


CASIAB = DATA.format("CASIA-B") + evaluator("evaluate_indoor_dataset")
GREW = DATA.format("GREW") + evaluator("GREW_submission")
GAIT3D = DATA.format("Gait3D") + evaluator("evaluate_Gait3D")
CASIAE = DATA.format("CASIA-E") + evaluator("evaluate_indoor_dataset")
CUT_MAPS = "[{type: BaseParsingCuttingTransform}]"
PARSING = DATA.format("Gait3D-Parsing") + evaluator("evaluate_Gait3D")
PARSING = PARSING.replace("restore_hint: 0", f"restore_hint: 0, transform: {CUT_MAPS}")
PARSING_COS = PARSING.replace("restore_hint: 0", "restore_hint: 0, metric: cos")
HID = DATA.format("HID") + evaluator("HID_submission, rerank: false")
CCPG = DATA.format("CCPG") + evaluator("evaluate_CCPG")
CCPG = CCPG.replace("data_cfg: {", "data_cfg: {data_in_use: [true, false, false, false], ")
SUSTECH = DATA.format("SUSTech1K") + evaluator("evaluate_indoor_dataset")
SUSTECH = SUSTECH.replace("data_cfg: {", f"data_cfg: {{data_in_use: [{'false, ' * 6}true{', false' * 9}], ")
OUMVLP = DATA.format("OUMVLP") + evaluator("evaluate_indoor_dataset")
ADAM = "optimizer_cfg: {{solver: Adam, lr: {}, momentum: 0.9, weight_decay: {}}}\n"
UNFIXED = "sample_type: unfixed_unordered, frames_num_min: {}, frames_num_max: {}"
ERASED = (
    "[{type: Compose, trf_cfg: [{type: BaseSilCuttingTransform}, {type: RandomRotate, prob: 0.3}, "
    "{type: RandomErasing, prob: 0.3}]}]"
)
STEPS_60K = schedule(20000, 40000, 50000)
STEPS_120K = schedule(60000, 80000, 100000)
GAITBASE_CASIAB = (
    CASIAB
    + BOTH
    + GAITBASE.format(74)
    + STEPS_60K
    + trainer(60000, "[8, 16]", "sample_type: fixed_unordered", ERASED)
)
RUNS = {
    "casiab_gaitset": CASIAB
    + GAITSET.format("32, 64, 128", 128)
    + schedule(10000, 20000, 30000)
    + trainer(40000, "[8, 16]", "frames_num_fixed: 30", CUT),
    "grew_gaitset": GREW
    + GAITSET.format("64, 128, 256", 256)
    + ADAM.format("0.0001", 0)
    + schedule(150000)
    + trainer(250000, "[32, 4]", "frames_num_fixed: 30", CUT),
    "casiab_gaitpart": CASIAB
    + GAITPART.format(THREE_STAGES, 128)
    + ADAM.format("0.0001", 0)
    + schedule(100000)
    + trainer(120000, "[8, 16]", SKIPS_10, CUT),
    "grew_gaitpart": GREW
    + GAITPART.format(FOUR_STAGES, 256)
    + ADAM.format("0.0001", 0.0)
    + schedule(150000)
    + trainer(250000, "[32, 4]", SKIPS_10, CUT),
    "casiae_gaitpart": CASIAE
    + GAITPART.format(FOUR_STAGES, 256)
    + ADAM.format("0.0001", 0.0)
    + schedule(100000)
    + trainer(120000, "[8, 32]", SKIPS_10, CUT),
    "casiae_gaitset": CASIAE
    + GAITSET.format("64, 128, 256", 256)
    + STEPS_60K
    + trainer(60000, "[8, 32]", "sample_type: fixed_unordered", CUT),
    "casiae_triplet": CASIAE
    + BOTH
    + GAITBASE.format(200)
    + STEPS_60K
    + trainer(60000, "[8, 32]", "sample_type: fixed_unordered", CUT),
    "oumvlp_gaitpart": OUMVLP
    + GAITPART.format(FOUR_STAGES, 256)
    + ADAM.format("0.0001", 0)
    + schedule(150000)
    + trainer(250000, "[32, 16]", SKIPS_10, CUT),
    "casiab_gaitgl": CASIAB
    + UNSCALED.format("false")
    + GAITGL.format("32, 64, 128", 74, "")
    + ADAM.format("0.0001", 0.0005)
    + schedule(70000)
    + trainer(80000, "[8, 8]", SKIPS_NONE, CUT),
    "grew_gaitgl": GREW
    + UNSCALED.format("true")
    + GAITGL.format("32, 64, 128, 256", 20000, "")
    + ADAM.format("0.0001", 0)
    + schedule(150000, 200000)
    + trainer(250000, "[32, 4]", SKIPS_NONE, CUT),
    "grew_gaitgl_necks": GREW
    + UNSCALED.format("true")
    + GAITGL.format("32, 64, 128, 256", 20000, NECKS)
    + ADAM.format("0.0001", 0)
    + schedule(150000, 200000)
    + trainer(250000, "[32, 4]", SKIPS_NONE, CUT),
    "oumvlp_gaitgl": OUMVLP
    + UNSCALED.format("true")
    + GAITGL.format("32, 64, 128, 256", 5153, "")
    + ADAM.format("0.0001", 0)
    + schedule(150000, 200000)
    + trainer(210000, "[32, 8]", SKIPS_NONE, CUT),
    "ccpg_triplet": CCPG
    + BOTH
    + GAITBASE.format(100)
    + STEPS_60K
    + trainer(60000, "[8, 16]", "sample_type: fixed_unordered", CUT),
    "hid_triplet": HID
    + BOTH.replace("scale: 16", "scale: 16, loss_term_weight: 0.1")
    + PLAIN
    + schedule(20000, 40000)
    + trainer(60000, "[16, 8]", "frames_num_fixed: 30", CUT.replace("}", ", img_w: 128}")),
    "casiab_deepgaitv2": CASIAB
    + BOTH
    + DEEP.format("p3d", "[1, 1, 1, 1]", 74)
    + STEPS_60K
    + trainer(60000, "[8, 16]", ORDERED, AUGMENTED),
    "ccpg_deepgaitv2": CCPG
    + BOTH
    + DEEP.format("p3d", "[1, 1, 1, 1]", 100)
    + STEPS_60K
    + trainer(60000, "[8, 16]", ORDERED, AUGMENTED),
    "sustech1k_deepgaitv2": SUSTECH
    + BOTH
    + DEEP.format("p3d", "[1, 1, 1, 1]", 250)
    + schedule(20000, 30000, 40000)
    + trainer(50000, "[8, 8]", ORDERED.replace("30", "10"), AUGMENTED),
    "gait3d_parsing_gaitset": PARSING_COS
    + GAITSET.format("32, 64, 128", 128)
    + ADAM.format("0.001", 0.0005)
    + schedule(30000, 90000)
    + trainer(180000, "[32, 4]", "frames_num_fixed: 30", CUT_MAPS),
    "gait3d_parsing_gaitpart": PARSING_COS
    + GAITPART.format(THREE_STAGES, 128)
    + ADAM.format("0.001", 0.0005)
    + schedule(30000, 90000)
    + trainer(180000, "[32, 4]", SKIPS_10, CUT_MAPS),
    "gait3d_parsing_gaitgl": PARSING_COS
    + UNSCALED.format("false")
    + GAITGL.format("32, 64, 128", 3000, "")
    + ADAM.format("1.0e-3", "5.0e-4")
    + schedule(30000, 90000)
    + trainer(180000, "[32, 4]", SKIPS_NONE, CUT_MAPS),
    "gait3d_parsing_triplet": PARSING
    + BOTH
    + GAITBASE.format(3000)
    + schedule(40000, 80000, 100000)
    + trainer(120000, "[32, 2]", "sample_type: fixed_unordered", CUT_MAPS),
    "casiab_triplet": GAITBASE_CASIAB,
    "casiab_mcl": GAITBASE_CASIAB.replace(TRIPLET, "{type: MCL, margin: 0.6, gamma: 0.6}"),
    "gait3d_triplet": GAIT3D
    + BOTH
    + GAITBASE.format(3000)
    + STEPS_60K
    + trainer(60000, "[32, 4]", UNFIXED.format(10, 50), AUGMENTED),
    "grew_triplet": GREW
    + BOTH
    + GAITBASE.format(20000)
    + schedule(80000, 120000, 150000)
    + trainer(180000, "[32, 4]", UNFIXED.format(20, 40), AUGMENTED),
    "gait3d_deepgaitv2": GAIT3D
    + BOTH
    + DEEP.format("p3d", "[1, 4, 4, 1]", 3000)
    + STEPS_60K
    + trainer(60000, "[32, 4]", ORDERED, AUGMENTED),
    "ccpg_foundationgait": CCPG
    + BOTH
    + FOUNDATIONGAIT.format("[8, 4, 2, 1, 8, 4, 2, 1]", 100)
    + schedule(2000)
    + trainer(3000, "[16, 32]", ORDERED, AUGMENTED).replace("sampler:", FROM_PRETRAINING),
    "gait3d_foundationgait": GAIT3D
    + BOTH
    + FOUNDATIONGAIT.format("[2, 2, 2, 2, 1, 1, 1, 1]", 3000)
    + schedule(3000)
    + trainer(4000, "[128, 4]", ORDERED, AUGMENTED).replace("sampler:", FROM_PRETRAINING),
    "gait3d_swingait": GAIT3D
    + BOTH
    + SWINGAIT.format(3000, "[1, 4, 4, 2]")
    + schedule(100000000)
    + trainer(80000, "[32, 4]", ORDERED, AUGMENTED).replace(
        "sampler:", FROM_DEEPGAITV2.format(60000, "true")
    ),
    "ccpg_swingait": CCPG
    + BOTH
    + SWINGAIT.format(100, "[1, 1, 2, 2]")
    + schedule(100000000)
    + trainer(80000, "[8, 16]", ORDERED, AUGMENTED).replace(
        "sampler:", FROM_DEEPGAITV2.format(60000, "false")
    ),
    "sustech1k_swingait": SUSTECH
    + BOTH
    + SWINGAIT.format(250, "[1, 1, 2, 2]")
    + schedule(100000000)
    + trainer(60000, "[8, 8]", ORDERED.replace("30", "10"), AUGMENTED).replace(
        "sampler:", FROM_DEEPGAITV2.format(50000, "false")
    ),
    "grew_swingait": GREW
    + BOTH
    + SWINGAIT.format(20000, "[1, 4, 4, 2]")
    + schedule(100000000)
    + trainer(200000, "[32, 4]", ORDERED, AUGMENTED).replace(
        "sampler:", FROM_DEEPGAITV2.format(150000, "false")
    ),
    "oumvlp_gaitset": OUMVLP
    + GAITSET.format("64, 128, 256", 256)
    + ADAM.format("0.0001", 0)
    + schedule(150000)
    + trainer(250000, "[32, 16]", "frames_num_fixed: 30", CUT),
    "oumvlp_triplet": OUMVLP
    + BOTH
    + GAITBASE.format(5153)
    + STEPS_120K
    + trainer(120000, "[32, 8]", "sample_type: fixed_unordered", CUT),
    # The files have mode p3d; the published figures are those of 3d.
    "oumvlp_deepgaitv2": OUMVLP
    + BOTH
    + DEEP.format("3d", "[1, 1, 1, 1]", 5153)
    + STEPS_120K
    + trainer(120000, "[32, 8]", ORDERED, AUGMENTED),
    "grew_deepgaitv2": GREW
    + BOTH
    + DEEP.format("3d", "[1, 4, 4, 1]", 20000)
    + schedule(80000, 120000, 150000)
    + trainer(180000, "[32, 4]", ORDERED, AUGMENTED),
}


# OpenGait's files of these models → the run that each describes.
FILES = {
    "gaitset/gaitset.yaml": "casiab_gaitset",
    "gaitset/gaitset_OUMVLP.yaml": "oumvlp_gaitset",
    "gaitset/gaitset_GREW.yaml": "grew_gaitset",
    "gaitset/gaitset_casiae.yaml": "casiae_gaitset",
    "gaitset/gaitset_gait3d_parsing.yaml": "gait3d_parsing_gaitset",
    "gaitbase/gaitbase_da_casiab.yaml": "casiab_triplet",
    "gaitbase/gaitbase_da_grew.yaml": "grew_triplet",
    "gaitbase/gaitbase_da_gait3d.yaml": "gait3d_triplet",
    "gaitbase/gaitbase_oumvlp.yaml": "oumvlp_triplet",
    "gaitbase/gaitbase_casiae.yaml": "casiae_triplet",
    "gaitbase/gaitbase_ccpg.yaml": "ccpg_triplet",
    "gaitbase/gaitbase_hid.yaml": "hid_triplet",
    "gaitbase/gaitbase_gait3d_parsing_btz32x2_fixed.yaml": "gait3d_parsing_triplet",
    "deepgaitv2/DeepGaitV2_casiab.yaml": "casiab_deepgaitv2",
    "deepgaitv2/DeepGaitV2_ccpg.yaml": "ccpg_deepgaitv2",
    "deepgaitv2/DeepGaitV2_gait3d.yaml": "gait3d_deepgaitv2",
    "deepgaitv2/DeepGaitV2_grew.yaml": "grew_deepgaitv2",
    "deepgaitv2/DeepGaitV2_oumvlp.yaml": "oumvlp_deepgaitv2",
    "deepgaitv2/DeepGaitV2_sustech1k.yaml": "sustech1k_deepgaitv2",
    "gaitpart/gaitpart.yaml": "casiab_gaitpart",
    "gaitpart/gaitpart_OUMVLP.yaml": "oumvlp_gaitpart",
    "gaitpart/gaitpart_GREW.yaml": "grew_gaitpart",
    "gaitpart/gaitpart_casiae.yaml": "casiae_gaitpart",
    "gaitpart/gaitpart_gait3d_parsing.yaml": "gait3d_parsing_gaitpart",
    "gaitgl/gaitgl.yaml": "casiab_gaitgl",
    "gaitgl/gaitgl_OUMVLP.yaml": "oumvlp_gaitgl",
    "gaitgl/gaitgl_GREW.yaml": "grew_gaitgl",
    "gaitgl/gaitgl_GREW_BNNeck.yaml": "grew_gaitgl_necks",
    "gaitgl/gaitgl_gait3d_parsing.yaml": "gait3d_parsing_gaitgl",
    "swingait/swingait3D_B1122C2_CCPG.yaml": "ccpg_swingait",
    "swingait/swingait3D_B1122C2_SUSTech1K.yaml": "sustech1k_swingait",
    "swingait/swingait3D_B1442C2_Gait3D.yaml": "gait3d_swingait",
    "swingait/swingait3D_B1442C2_GREW.yaml": "grew_swingait",
}


def test_every_config_of_these_models_is_a_run_here():
    assert len(FILES) == 33
    of_others = {"casiab_mcl", "ccpg_foundationgait", "gait3d_foundationgait"}
    assert set(FILES.values()) == set(RUNS) - of_others


def translated(tmp_path, text: str) -> tuple[ConfigDict, str]:
    (tmp_path / "F.yaml").write_text(text)
    translation = translate(tmp_path / "F.yaml")
    validate(translation.config)
    return translation.config, "\n".join(translation.notes)


@pytest.mark.parametrize("name", RUNS)
def test_a_config_is_translated_to_the_recipe_of_the_same_run(tmp_path, name):
    config, _ = translated(tmp_path, RUNS[name])
    recipe = load_config(name)
    if "num_classes" in recipe.model:  # OpenGait's number is that of the training subjects
        assert recipe.model.num_classes == 0
        config.model.num_classes = 0
    for block in ("model", "loss", "optimizer", "schedule"):
        assert config[block].to_dict() == recipe[block].to_dict(), block
    for key in ("steps", "batch", "precision", "fit_partly"):
        assert config.train[key] == recipe.train[key]
    assert config.data.dataset == recipe.data.dataset
    assert config.eval.metric == recipe.eval.metric
    assert tuple(config.data.augment) == tuple(recipe.data.augment)
    mode = recipe.data.sampling.mode
    keys = {"fixed_unordered": ("frames",), "unfixed_unordered": ("min_frames", "max_frames")}
    for key in ("mode", *keys.get(mode, ("frames", "skip", "min_rate", "max_rate"))):
        assert config.data.sampling[key] == recipe.data.sampling[key]


def test_foundationgait_has_a_rate_for_each_layer(tmp_path):
    text = RUNS["ccpg_foundationgait"]
    config, _ = translated(tmp_path, text.replace("0.0, 0.001, 0.005]", "0.0003, 0.001, 0.1]"))
    rates = [rate for _, rate, _ in config.optimizer.groups]
    assert rates == [0.0, 0.0, 0.003, 0.01, 1.0, 0.1]
    for old, new, why in (
        ("[0.0, 0.0, 0.0, 0.001, 0.005]", "[0.001]", r"backbone_lr: is \[0\.001\]; expected the rates of"),
        ("SGD, lr: 0.1", "SGD, lr: 0", r"optimizer_cfg\.lr: is 0; the rates of the backbone become shares"),
        ("parts_num: 31, Sep", "parts_num: 16, Sep", r"parts_num: is 16; it would change"),
        ("[8, 4, 2, 1, 8, 4, 2, 1]", "[3]", r"model\.crops: is \(3,\); expected numbers that divide 8"),
    ):
        assert old in text
        with pytest.raises(ConfigError, match=why):
            translated(tmp_path, text.replace(old, new))


def test_the_model_of_gaitssb_is_said_to_be_missing(tmp_path):
    """Its own files give a setting twice, with one value."""
    with pytest.raises(ConfigError, match=r"model_cfg\.model: is GaitSSB_Finetune; mcl_jax has .*, but not"):
        translated(tmp_path, GAITSSB)
    other = GAITSSB.replace(", dataset_name: CASIA-B}", ", dataset_name: GREW}")
    with pytest.raises(ConfigError, match="'dataset_name' is given twice"):
        translated(tmp_path, other)


def test_swingait_starts_from_fitting_tensors_and_has_its_own_schedule(tmp_path):
    config, notes = translated(tmp_path, RUNS["grew_swingait"])
    assert (config.init_from, config.train.fit_partly, config.train.keep_classifier) == (
        "DeepGaitV2.pt",
        True,
        True,
    )
    assert "trainer_cfg.restore_ckpt_strict: tensors of restore_hint that fit" in notes
    for old, new, why in (
        (
            "[100000000]",
            "[100]",
            r"total_iter: is 200000; this model has a cosine schedule; the milestones",
        ),
        ("T_max_iter: 150000, ", "", r"T_max_iter: is missing"),
        (
            "optimizer_reset: true",
            "optimizer_reset: false",
            r"restore_hint: is DeepGaitV2\.pt; to continue with",
        ),
        ("bin_num: [15]", "bin_num: [16]", r"bin_num: is \[16\]; it would change results"),
    ):
        assert old in RUNS["grew_swingait"]
        with pytest.raises(ConfigError, match=why):
            translated(tmp_path, RUNS["grew_swingait"].replace(old, new))


@pytest.mark.parametrize(
    ("run", "old", "new", "told"),
    [
        ("gait3d_parsing_triplet", "BaseParsing", "BaseSil", "gait3d_parsing has parsing maps"),
        ("casiab_triplet", "BaseSil", "BaseParsing", "casiab has silhouettes"),
    ],
)
def test_maps_are_not_cut_as_silhouettes_nor_these_as_maps(tmp_path, run, old, new, told):
    with pytest.raises(
        ConfigError, match=f"type: is {new}CuttingTransform; would change the numbers, and {told}"
    ):
        translated(tmp_path, RUNS[run].replace(f"{old}CuttingTransform", f"{new}CuttingTransform"))


@pytest.mark.parametrize(
    ("used", "file"),
    [("[true, false]", "1"), ("[false, false, true]", "3"), ("[true]", "1")],
)
def test_data_in_use_becomes_a_file_number(tmp_path, used, file):
    config, _ = translated(tmp_path, RUNS["casiae_triplet"])
    assert config.data.file == ""
    text = RUNS["casiae_triplet"].replace("data_cfg: {", f"data_cfg: {{data_in_use: {used}, ")
    assert translated(tmp_path, text)[0].data.file == file


@pytest.mark.parametrize("used", ["[true, true]", "[false]", "[]", "[0, 1]"])
def test_several_files_of_a_sequence_are_refused(tmp_path, used):
    text = RUNS["casiae_triplet"].replace("data_cfg: {", f"data_cfg: {{data_in_use: {used}, ")
    with pytest.raises(ConfigError, match=r"data_in_use: is \[.*\]; mcl_jax reads exactly one file"):
        translated(tmp_path, text)


@pytest.mark.parametrize(
    ("dataset", "function", "ours", "rerank"),
    [
        ("CCGR-MINI", "evaluate_CCGR_MINI", "ccgr_mini", False),
        ("FreeGait", "evaluate_FreeGait", "freegait", False),
        ("HID", "HID_submission", "hid", True),
        ("HID", "HID_submission, rerank: false", "hid", False),
    ],
)
def test_datasets_without_a_recipe_of_these_models(tmp_path, dataset, function, ours, rerank):
    text = RUNS["casiae_triplet"].replace(CASIAE, DATA.format(dataset) + evaluator(function))
    config, _ = translated(tmp_path, text)
    assert (config.data.dataset, config.eval.protocol) == (ours, DATASETS[ours].protocol)
    assert config.eval.rerank is rerank


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("type: Plain", "type: Other", r"backbone_cfg\.type: is Other; mcl_jax has ResNet9 and Plain"),
        ("BC-128, BC-128, M", "BC-128, BC-128", "layers_cfg: is .*; mcl_jax has four stages"),
        ("BC-64, BC-64", "FC-64-1, FC-64-1", "layers_cfg: is .*; mcl_jax has four stages"),
        (", BC-512, BC-512]", ", BC-512]", "layers_cfg: is .*; mcl_jax has four stages"),
        ("in_channels: 1, l", "in_channels: 3, l", "backbone_cfg.in_channels: is 3"),
        ("img_w: 128", "cutting: 10", "cutting: is 10; frames of 128 columns need 20: remove it"),
        (HID, CASIAE, "data.dataset: casiae has frames of 64×44, but this gaitbase takes 128×88"),
    ],
)
def test_other_plain_backbones_are_refused(tmp_path, old, new, told):
    assert old in RUNS["hid_triplet"]
    with pytest.raises(ConfigError, match=told):
        translated(tmp_path, RUNS["hid_triplet"].replace(old, new))


def test_the_model_says_which_frames_of_hid_are_taken(tmp_path):
    config, _ = translated(tmp_path, HID + BOTH + GAITBASE.format(500) + STEPS_60K)
    assert config.data.dataset == "hid"


@pytest.mark.parametrize("mode", ["2d", "3d", "p3d"])
def test_deepgaitv2_of_every_mode(tmp_path, mode):
    text = DATA.format("OUMVLP") + "evaluator_cfg: {restore_hint: 120000}\n" + BOTH
    text += DEEP.format(f"'{mode}'", "[1, 1, 1, 1]", 5153) + schedule(60000, 80000, 100000)
    config, _ = translated(tmp_path, text + trainer(120000, "[32, 8]", ORDERED, AUGMENTED))
    assert (config.model.mode, config.model.layers, config.model.num_classes) == (mode, (1, 1, 1, 1), 5153)
    assert (config.data.dataset, config.eval.protocol, config.train.batch) == ("oumvlp", "oumvlp", (32, 8))
    assert config.data.partition == "OUMVLP.json"


def test_settings_without_effect_are_noted(tmp_path):
    _, notes = translated(tmp_path, RUNS["grew_gaitset"])
    for part in (
        "trainer_cfg.sync_BN (True): ",
        "trainer_cfg.enable_float16: bfloat16",
        "optimizer_cfg.momentum (0.9): Adam has no momentum",
        "data_cfg.dataset_partition: there is no file 'GREW.json'",
        "loss_cfg.log_prefix (triplet)",
        "evaluator_cfg.sampler.batch_size (4)",
    ):
        assert part in notes
    assert "frames_all_limit" not in notes


def test_missing_settings_get_opengaits_defaults(tmp_path):
    text = "model_cfg:" + GAITSET.format("32, 64, 128", 128).removeprefix("model_cfg:")
    config, notes = translated(tmp_path, "data_cfg: {test_dataset_name: CASIA-B}\n" + text)
    assert (config.train.steps, config.train.batch, config.train.save_every) == (80000, (8, 16), 2000)
    assert config.schedule.milestones == (20000, 40000, 60000)
    assert "evaluator_cfg.sampler.frames_all_limit: is missing" in notes


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("sync_BN: true", "fix_BN: 1", "trainer_cfg.fix_BN: is 1; expected bool"),
        (
            "layers: [1, 1, 1, 1]",
            "layers: [1, 1, 1, 0]",
            "backbone_cfg.layers: is (1, 1, 1, 0); each stage",
        ),
        ("maxpool: false", "maxpool: 1", "backbone_cfg.maxpool: is 1; expected bool"),
        ("block: BasicBlock", "block: Bottleneck", "backbone_cfg.block: is Bottleneck; it would change"),
        ("bin_num: [16]", "bin_num: [16, 8]", "SeparateFCs.parts_num: is 16; it would change results"),
        ("type: BaseSilCuttingTransform", "type: BaseSilCuttingTransform, cutting: 4", "cutting: is 4"),
        ("type: BaseSilCuttingTransform", "type: BaseSilCuttingTransform, divsor: 1", "divsor: is 1"),
        ("type: RandomRotate", "type: RandomRotate, degree: far", "degree: is far; expected float"),
        ("type: RandomErasing", "type: RandomErasing, per_frame: 1", "per_frame: is 1; expected bool"),
        ("type: RandomRotate", "type: RandomBlur", "transform.type: is RandomBlur"),
        (
            "frames_all_limit: 720",
            "frames_all_limit: -1",
            "frames_all_limit: is -1; expected a number of frames",
        ),
        ("dataset_name: CASIA-B,", "dataset_name: D-Gait,", "data_cfg.dataset_name: is D-Gait; mcl_jax has"),
        ("restore_hint: 0,", "rerank: true, restore_hint: 0,", "rerank: is True; OpenGait re-ranks in HID"),
        ("evaluate_indoor_dataset", "evaluate_Gait3D", "evaluator_cfg.eval_func: is evaluate_Gait3D"),
        ("dataset_partition:", "remove_no_gallery: true, dataset_partition:", "remove_no_gallery: is True"),
        ("log_accuracy: true", "focal: 2", "loss_cfg.focal: is an unknown setting"),
        ("sync_BN: true", "warmup: 3", "trainer_cfg.warmup: is an unknown setting"),
        ("sync_BN: true", "restore_hint: 20000", "trainer_cfg.restore_hint: is 20000"),
        ("sync_BN: true", "restore_hint: a.pt", "mcl-jax convert --with-optimizer"),
        ("sync_BN: true", "T_max_iter: 60000", "trainer_cfg.T_max_iter: is an unknown setting"),
        ("type: TripletLoss", "type: GiLoss", "loss_cfg.type: is GiLoss"),
        ("total_iter: 60000", "total_iter: many", "trainer_cfg.total_iter: is many; expected int"),
        ("total_iter: 60000", "total_iter: true", "true and false are not allowed"),
        ("[8, 16]", "[8, 16, 2]", "batch_size: is [8, 16, 2]; expected 2 whole numbers"),
        ("fixed_unordered", "fixed_ordered", "frames_skip_num: is missing"),
        ("model: Baseline", "model: GaitSSB", "model_cfg.model: is GaitSSB"),
        ("model_cfg:", "model_cfg: [", "is not valid YAML"),
        ("model_cfg:", "loss_cfg: {}\nmodel_cfg:", "'loss_cfg' is given twice"),
        ("model_cfg:", "x: &a [1]\ny: *a\nmodel_cfg:", "aliases are not allowed"),
        ("model_cfg:", "x: !!python/object/apply:os.getcwd []\nmodel_cfg:", "is not valid YAML"),
        ("model_cfg:", "model:", "it has no model_cfg"),
    ],
)
def test_settings_that_would_change_results_are_refused_in_one_line(tmp_path, old, new, told):
    assert old in GAITBASE_CASIAB
    with pytest.raises(ConfigError) as error:
        translated(tmp_path, GAITBASE_CASIAB.replace(old, new))
    assert told in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'F.yaml'}")
    assert "\n" not in str(error.value)


def test_restore_hint_becomes_init_from_if_nothing_else_is_restored(tmp_path):
    text = GAITBASE_CASIAB.replace(
        "sync_BN: true", "restore_hint: a.pt, optimizer_reset: true, scheduler_reset: true"
    )
    config, _ = translated(tmp_path, text)
    assert config.init_from == "a.pt"


def test_sizes_of_gaitbase_and_bins(tmp_path):
    text = GAITBASE_CASIAB.replace("layers: [1, 1, 1, 1]", "layers: [1, 2, 1, 1]")
    text = text.replace("strides: [1, 2, 2, 1], maxpool: false", "strides: [1, 1, 2, 1]")
    text = text.replace("bin_num: [16]", "bin_num: [16, 8, 4, 2, 1]").replace(
        "parts_num: 16", "parts_num: 31"
    )
    model = translated(tmp_path, text)[0].model
    assert (model.layers, model.strides, model.max_pool) == ((1, 2, 1, 1), (1, 1, 2, 1), True)
    assert model.bins == (16, 8, 4, 2, 1)
    text = RUNS["casiab_gaitset"].replace("[16, 8, 4, 2, 1]", "[8, 1]").replace("62", "18")
    assert translated(tmp_path, text)[0].model.bins == (8, 1)


def test_missing_layers_and_strides_get_opengaits_defaults(tmp_path):
    model = translated(
        tmp_path, GAITBASE_CASIAB.replace("layers: [1, 1, 1, 1], strides: [1, 2, 2, 1], ", "")
    )[0].model
    assert (model.layers, model.strides) == ((1, 2, 2, 1), (1, 2, 2, 1))


def test_parameters_of_transforms(tmp_path):
    text = GAITBASE_CASIAB.replace("type: RandomRotate", "type: RandomRotate, degree: 15")
    text = text.replace(
        "type: RandomErasing", "type: RandomErasing, sl: 0.1, sh: 0.2, r1: 0.5, per_frame: true"
    )
    text = text.replace(
        "CuttingTransform},", "CuttingTransform, cutting: 10}, {type: RandomAffine, degree: 5},"
    )
    config, notes = translated(tmp_path, text)
    assert tuple(config.data.augment) == (
        ("cut", 1.0),
        ("affine", 0.5),
        ("rotate", 0.3, {"degree": 15.0}),
        ("erase", 0.3, {"min_area": 0.1, "aspect": 0.5, "per_frame": True}),
    )
    assert "RandomAffine.degree (5): OpenGait does not read it" in notes


def test_max_frames_and_the_step_of_a_test_are_translated(tmp_path):
    text = GAITBASE_CASIAB.replace("frames_all_limit: 720", "frames_all_limit: 300")
    config, _ = translated(tmp_path, text.replace("restore_hint: 0", "restore_hint: 40000"))
    assert (config.eval.max_frames, config.eval.step, config.train.keep_every) == (300, 40000, 40000)
    config, notes = translated(tmp_path, text.replace("restore_hint: 0", "restore_hint: 60000"))
    assert (config.eval.step, config.train.keep_every) == (0, 0)
    assert "restore_hint" not in notes
    config, notes = translated(tmp_path, text.replace("restore_hint: 0", "restore_hint: 80000"))
    assert config.eval.step == 0
    assert "evaluator_cfg.restore_hint: 80000: not used; the newest checkpoint is tested" in notes


def test_fix_bn_becomes_freeze_batch_norm(tmp_path):
    assert not translated(tmp_path, GAITBASE_CASIAB)[0].train.freeze_batch_norm
    text = GAITBASE_CASIAB.replace("sync_BN: true", "fix_BN: true")
    assert translated(tmp_path, text)[0].train.freeze_batch_norm


def test_the_documentation_lists_all_translated_settings(tmp_path, monkeypatch):
    asked: set[str] = set()

    def watch(method: str, keys) -> None:
        original = getattr(Settings, method)

        def watched(self, *args, **kwargs):
            where = re.sub(r".*(loss_cfg|transform)\.", r"\1.", self.where.partition(": ")[2])
            asked.update(where + key for key in keys(args, kwargs))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Settings, method, watched)

    for method in ("take", "must_be", "numbers", "block"):
        watch(method, lambda args, kwargs: args[:1])
    watch("ignore", lambda args, kwargs: kwargs)
    for text in RUNS.values():
        translated(tmp_path, text)
    for other in ("BaseSilTransform", "RandomAffine"):
        text = RUNS["casiab_triplet"].replace(
            "{type: RandomRotate", f"{{type: {other}}}, {{type: RandomRotate"
        )
        translated(tmp_path, text)
    page = (Path(__file__).resolve().parents[2] / "docs" / "opengait.md").read_text()
    listed: set[str] = set()
    for row in re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE):
        listed.update(re.findall(r"`([^`]+)`", row))
    blocks = {key for key in asked if any(other.startswith(f"{key}.") for other in asked)}
    assert listed == asked - blocks


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("? [a, b]\n: c", "line 1: is not valid YAML: a list or block as a key"),
        ("x: {{a: b}: c}", "a list or block as a key"),
        ("x: !!int ''", "tags such as tag:yaml.org,2002:int are not allowed"),
        ("x: !!bool maybe", "tags such as "),
        ("x: !!timestamp x", "tags such as "),
        ("x: !mine y", "tags such as "),
        (r'x: "\UFFFFFFFF"', "is not valid YAML"),
        (r'x: "\U00110000"', "is not valid YAML"),
        (r'x: "\uD800"', "an incomplete character"),
        ("x: 0x" + "f" * 9000, "a value of 9002 characters; the maximum is 1000"),
        ("x: 0x" + "f" * 500, "is not a valid setting"),
        ("x: -" + "9" * 400, "is not a valid setting"),
        ("x: 1e400", "x: is an unknown setting"),
        ("x: 1.0e+400", "is not a valid setting"),
        ("x: .nan", "is not a valid setting"),
        ("x: 1" + ":59" * 300, "is not a valid setting"),
        ("x: 1" + ":59" * 20_000, "a value of 60001 characters"),
        ("x: 1" + ":59" * 300_000, "the limit for such a file is 65536"),
        ("x: " + "[" * 5000, "more than 20 nested blocks and lists"),
        ("x: " + "- " * 5000, "is not valid YAML"),
        ("x: 2001-99-99", "x: is an unknown setting"),
        ("<<: 5", "<<: is an unknown setting"),
        ("=: 5", "=: is an unknown setting"),
        (r'"\e[31m": 5', r"'\x1b[31m': is an unknown setting"),
        ("\x00: 5", "is not valid YAML"),
    ],
)
def test_yaml_that_python_cannot_parse_is_refused_in_one_line(tmp_path, line, said):
    (tmp_path / "F.yaml").write_text(f"{line}\n{GAITBASE_CASIAB}")
    begun = time.process_time()
    with pytest.raises(ConfigError) as error:
        translate(tmp_path / "F.yaml")
    assert time.process_time() - begun < 2
    assert said in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["a" * 300, "\\0", "a/" * 400])
def test_partition_names_that_no_file_can_have(tmp_path, name):
    text = GAITBASE_CASIAB.replace("dataset_partition: CASIA-B.json", f'dataset_partition: "{name}"')
    assert "CASIA-B's own split is built in" in translated(tmp_path, text)[1]


@pytest.mark.parametrize(
    "words",
    [
        "BC-32, BC-32, BC-64, BC-64, M, FC-128-3, FC-128-3",
        "BC-32, BC-32, M, BC-64, BC-32, M, FC-128-3, FC-128-3",
        "BC-32, BC-32, M, FC-64-2, FC-64-2, M, FC-128-3",
        "BC-32, BC-32, M, FC-64, FC-64, M, FC-128-3, FC-128-3",
        "BC-32, BC-32, M, BC-64, BC-64, M",
        "1, 2",
    ],
)
def test_other_backbones_than_gaitparts_are_refused(tmp_path, words):
    with pytest.raises(ConfigError, match=r"layers_cfg: is \[.*; mcl_jax has stages of two equal"):
        translated(tmp_path, RUNS["casiab_gaitpart"].replace(THREE_STAGES, words))


def test_the_form_of_gaitgl_is_that_of_the_dataset(tmp_path):
    with pytest.raises(ConfigError, match="model_cfg.channels: is .*; expected 3 whole numbers"):
        translated(tmp_path, RUNS["casiab_gaitgl"].replace("32, 64, 128", "32, 64, 128, 256"))
    with pytest.raises(ConfigError, match="model_cfg.class_num: is 8; but 20000 in SeparateBNNecks"):
        translated(tmp_path, RUNS["grew_gaitgl_necks"].replace("class_num: 20000", "class_num: 8", 1))
