"""OpenGait's YAML configs from strangers."""

import json
import random
from pathlib import Path

from mutations import NAMES, NUMBERS, YAML_PIECES, text_damaged

from mcl_jax.config import validate
from mcl_jax.convert.opengait_yaml import translate
from targets.base import Target

SOUND = """\
data_cfg:
  dataset_name: CASIA-B
  dataset_root: your_path
  dataset_partition: ./datasets/CASIA-B/CASIA-B.json
  num_workers: 1
  remove_no_gallery: false
  test_dataset_name: CASIA-B
evaluator_cfg:
  enable_float16: true
  restore_ckpt_strict: true
  restore_hint: 60000
  save_name: GaitBase_DA
  eval_func: evaluate_indoor_dataset
  sampler:
    batch_shuffle: false
    batch_size: 1
    sample_type: all_ordered
    frames_all_limit: 720
    type: InferenceSampler
  metric: euc # cos
  transform:
    - type: BaseSilCuttingTransform
loss_cfg:
  - loss_term_weight: 1.0
    margin: 0.2
    type: TripletLoss
    log_prefix: triplet
  - loss_term_weight: 1.0
    scale: 16
    type: CrossEntropyLoss
    log_prefix: softmax
    log_accuracy: true
model_cfg:
  model: Baseline
  backbone_cfg:
    type: ResNet9
    block: BasicBlock
    channels: [64, 128, 256, 512]
    layers: [1, 1, 1, 1]
    strides: [1, 2, 2, 1]
    maxpool: false
  SeparateFCs:
    in_channels: 512
    out_channels: 256
    parts_num: 16
  SeparateBNNecks:
    class_num: 74
    in_channels: 256
    parts_num: 16
  bin_num: [16]
optimizer_cfg: {lr: 0.1, momentum: 0.9, solver: SGD, weight_decay: 0.0005}
scheduler_cfg:
  gamma: 0.1
  milestones: [20000, 40000, 50000]
  scheduler: MultiStepLR
trainer_cfg:
  enable_float16: true
  fix_BN: false
  with_test: false
  log_iter: 100
  restore_ckpt_strict: true
  restore_hint: 0
  save_iter: 20000
  save_name: GaitBase_DA
  sync_BN: true
  total_iter: 60000
  sampler:
    batch_shuffle: true
    batch_size: [8, 16]
    frames_num_fixed: 30
    frames_skip_num: 4
    sample_type: fixed_unordered
    type: TripletSampler
  transform:
    - type: Compose
      trf_cfg:
        - type: RandomPerspective
          prob: 0.2
        - type: BaseSilCuttingTransform
        - type: RandomErasing
          prob: 0.3
"""


class YamlConfig(Target):
    harm_is = "words, lines and bytes of an OpenGait config"
    may_differ = True
    mebibytes = 512
    seconds = 10

    def make(self, folder: Path) -> None:
        (folder / "config.yaml").write_text(SOUND)

    def harm(self, folder: Path, rng: random.Random) -> str:
        text = text_damaged(SOUND, rng, (*YAML_PIECES, *NUMBERS, *NAMES))
        (folder / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
        return "text"

    def answer(self, folder: Path) -> str:
        translation = translate(folder / "config.yaml")
        validate(translation.config)
        for note in translation.notes:
            assert "\n" not in note, note
        return json.dumps(json.loads(translation.config.to_json_best_effort()), sort_keys=True)
