"""Imports a PyTorch checkpoint of OpenGait as the folder of a run, or exports a run back.

python scripts/convert_torch_ckpt.py --config configs/X.py --ckpt F.pt --out DIR [--with-optimizer]
python scripts/convert_torch_ckpt.py --to-torch --ckpt DIR --out F.pt
"""

import sys

from mcl_jax.cli.program import run_command

if __name__ == "__main__":
    sys.exit(run_command("convert", sys.argv[1:], prog=sys.argv[0], description=__doc__))
